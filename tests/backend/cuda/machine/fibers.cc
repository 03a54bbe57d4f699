// The threads of a block as fibers, which take turns in random order at every barrier; blocks run one after another.
// A kernel without barriers is called for one thread after the other.
//
// Under ThreadSanitizer every fiber is a thread to it, what the barriers don't put in order happens at the same time,
// and so do two successive blocks. CUDA_MACHINE_NO_BARRIER=n leaves the n-th barrier of every thread out (from 1),
// which it has to report. This file itself is compiled without sanitizers.
#include <cuda_runtime_api.h>
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "fibers.h"
#include "recorder.h"
#include "sanitizers.h"

namespace cuda_machine {

dim3 thread_index, block_index, block_size, grid_size;

namespace {

// A stack on which one kernel after another is called. It begins in a context of its own; after that a switch saves and
// loads registers alone, since swapcontext asks the system for the signal mask each time.
class Fiber {
  public:
    explicit Fiber(void (*live)()) : stack(new char[STACK]), strand(stack.get(), STACK) {
        getcontext(&beginning);
        beginning.uc_stack.ss_sp = stack.get();
        beginning.uc_stack.ss_size = STACK;
        beginning.uc_link = nullptr;
        makecontext(&beginning, live, 0);
    }

    // Returns when the fiber pauses.
    void resume() {
        if (_setjmp(outside)) return strand.left();
        strand.enter();
        if (begun) _longjmp(inside, 1);
        begun = true;
        setcontext(&beginning);
    }

    void pause() {
        if (_setjmp(inside)) return strand.entered();
        strand.leave();
        _longjmp(outside, 1);
    }

    void started() { strand.entered(); }

  private:
    static constexpr size_t STACK = 1 << 18;
    std::unique_ptr<char[]> stack;
    Strand strand;
    ucontext_t beginning;
    jmp_buf inside, outside;
    bool begun = false;
};

// What the threads of a block did before they all met comes before what they do after it.
class Meeting {
  public:
    void come() { rounds[round % 2].release(); }
    void complete() { round++; }
    void go_on() { rounds[(round + 1) % 2].acquire(); }

  private:
    Order rounds[2];  // one thread comes to the next meeting before another goes on from this
    unsigned round = 0;
};

// Of its very size and never given back, for AddressSanitizer and ThreadSanitizer to see all that is done to it.
struct Shared {
    void* memory = nullptr;
    unsigned block = 0;  // that it was filled for
    Order filled;
};

struct Kernel {
    void (*call)(const void*);
    const void* called;
    Order launched;

    void operator()() const { call(called); }
};

// Where one block runs after another, with the fibers and the shared memory of all of them.
class Place {
  public:
    // The first thread tells whether there are barriers.
    void run(Kernel& what, std::mt19937& random) {
        kernel = &what;
        current = this;
        const unsigned count = block_size.x * block_size.y * block_size.z;
        while (fibers.size() < count) fibers.emplace_back(live);
        ended.assign(count, false);
        barriers.assign(count, 0);
        block++;
        resume(0);
        if (ended[0] && !Strand::seen()) {
            alone = true;
            for (unsigned t = 1; t < count; t++) place(t), what();
            alone = false;
            return;
        }
        std::vector<unsigned> order;
        for (unsigned t = 1; t < count; t++) order.push_back(t);
        unsigned done = ended[0] + resume_all(order, random);
        order.push_back(0);
        for (meeting.complete(); done < count; meeting.complete()) {
            if (done) fail("some threads of a block ended where others wait at a barrier");
            done = resume_all(order, random);
        }
    }

    void wait() {
        static const int left_out = getenv("CUDA_MACHINE_NO_BARRIER") ? atoi(getenv("CUDA_MACHINE_NO_BARRIER")) : 0;
        if (alone) fail("a thread waits at a barrier that the first thread of its block did not come to");
        if (++barriers[running] == left_out) return;
        meeting.come();
        fibers[running].pause();
        meeting.go_on();
    }

    void* shared_variable(size_t number, size_t size) {
        Shared& variable = shared[{number, size}];
        if (!variable.memory && posix_memalign(&variable.memory, 64, size)) fail("no memory is left");
        if (variable.block != block) {
            memset(variable.memory, 0xff, size);  // not zero, as on a GPU
            variable.block = block;
            variable.filled.release();
        }
        variable.filled.acquire();
        return variable.memory;
    }

    // What the blocks did comes before what the caller does now.
    void join() { meeting.go_on(); }

    static Place* current;

  private:
    static void live() {
        current->fibers[current->running].started();
        for (;;) {
            Place& here = *current;
            here.kernel->launched.acquire();
            here.meeting.go_on();  // from the block before
            (*here.kernel)();
            here.ended[here.running] = true;
            here.meeting.come();
            here.fibers[here.running].pause();
        }
    }

    // In random order; returns how many have ended.
    unsigned resume_all(std::vector<unsigned>& threads, std::mt19937& random) {
        std::shuffle(threads.begin(), threads.end(), random);
        unsigned done = 0;
        for (unsigned thread : threads) {
            resume(thread);
            done += ended[thread];
        }
        return done;
    }

    void resume(unsigned thread) {
        running = thread;
        place(thread);
        fibers[thread].resume();
    }

    static void place(unsigned t) {
        thread_index = dim3(t % block_size.x, t / block_size.x % block_size.y, t / block_size.x / block_size.y);
    }
    static void fail(const char* why) {
        fprintf(stderr, "CUDA machine: %s\n", why);
        abort();
    }

    Kernel* kernel = nullptr;
    std::deque<Fiber> fibers;
    std::map<std::pair<size_t, size_t>, Shared> shared;  // by number and size
    unsigned block = 0;
    std::vector<char> ended;
    std::vector<int> barriers;  // that each thread has come to
    Meeting meeting;
    unsigned running = 0;
    bool alone = false;
};
Place* Place::current;

}  // namespace

void barrier() { Place::current->wait(); }
void* shared_memory(size_t number, size_t size) { return Place::current->shared_variable(number, size); }

void record_launch(const char* name, dim3 grid, dim3 block) {
    machine_record("launch %s, grid %u %u %u, block %u %u %u", name, grid.x, grid.y, grid.z, block.x, block.y, block.z);
}

void run_blocks(dim3 grid, dim3 block, void (*call)(const void*), const void* called) {
    if (!machine_starts(block.x * block.y * block.z) || !machine_computes()) return;
    static std::mt19937 random(getenv("CUDA_MACHINE_SEED") ? atoi(getenv("CUDA_MACHINE_SEED")) : 0);
    static Place* const places = new Place[2];  // which outlive the fibers that sanitizers know of
    grid_size = grid;
    block_size = block;
    Kernel kernel{call, called, {}};
    kernel.launched.release();
    unsigned number = 0;
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                block_index = dim3(x, y, z);
                places[number++ % 2].run(kernel, random);
            }
    for (Place* each : {&places[0], &places[1]}) each->join();
}

}  // namespace cuda_machine
