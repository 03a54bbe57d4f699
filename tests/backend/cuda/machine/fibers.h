// The threads of a block as fibers, which take turns in random order at every barrier; blocks run one after another.
// A kernel without barriers is called for one thread after the other.
#pragma once
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "operands.h"
#include "recorder.h"

namespace cuda_machine {

inline dim3 thread_index, block_index, block_size, grid_size;

// A stack that calls kernels one after another. It begins in a context of its own; after that a switch saves and loads
// registers alone, since swapcontext asks the system for the signal mask each time.
class Fiber {
  public:
    explicit Fiber(void (*live)()) : stack(new char[STACK]) {
        getcontext(&beginning);
        beginning.uc_stack.ss_sp = stack.get();
        beginning.uc_stack.ss_size = STACK;
        beginning.uc_link = nullptr;
        makecontext(&beginning, live, 0);
    }

    // Returns when the fiber pauses.
    void resume() {
        if (_setjmp(outside)) return;
        if (begun) _longjmp(inside, 1);
        begun = true;
        setcontext(&beginning);
    }

    void pause() {
        if (!_setjmp(inside)) _longjmp(outside, 1);
    }

  private:
    static constexpr size_t STACK = 1 << 16;
    std::unique_ptr<char[]> stack;
    ucontext_t beginning;
    jmp_buf inside, outside;
    bool begun = false;
};

class Block {
  public:
    Block(const std::function<void()>& kernel, std::mt19937& random)
        : kernel(kernel), random(random), count(block_size.x * block_size.y * block_size.z), ended(count) {
        while (fibers.size() < count) fibers.emplace_back(live);
        current = this;
    }

    // The first thread tells whether there are barriers: without them all others are plain calls.
    void run() {
        for (std::vector<char>& memory : shared) memory.clear();
        std::fill(ended.begin(), ended.end(), false);
        resume(0);
        if (ended[0]) {
            alone = true;
            for (unsigned t = 1; t < count; t++) place(t), kernel();
            alone = false;
            return;
        }
        std::vector<unsigned> order;
        for (unsigned t = 1; t < count; t++) order.push_back(t);
        unsigned done = resume_all(order);
        order.push_back(0);
        while (done < count) {
            if (done) fail("some threads of a block ended where others wait at a barrier");
            done = resume_all(order);
        }
    }

    void wait() {
        if (alone) fail("a thread waits at a barrier that the first thread of its block did not come to");
        fibers[running].pause();
    }

    template <class T>
    T& shared_variable(size_t number) {
        if (shared.size() <= number) shared.resize(number + 1);
        std::vector<char>& memory = shared[number];
        if (memory.empty()) memory.assign(sizeof(T) + alignof(max_align_t), char(0xff));  // not zero, as on a GPU
        void* start = memory.data();
        size_t space = memory.size();
        return *(T*)std::align(alignof(max_align_t), sizeof(T), start, space);
    }

    static inline Block* current;

  private:
    static void live() {
        for (;;) {
            current->kernel();
            current->ended[current->running] = true;
            fibers[current->running].pause();
        }
    }

    // In random order; returns how many have ended.
    unsigned resume_all(std::vector<unsigned>& threads) {
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

    const std::function<void()>& kernel;
    std::mt19937& random;
    const unsigned count;
    std::vector<char> ended;
    static inline std::deque<Fiber> fibers;  // one for each thread of the largest block so far
    std::vector<std::vector<char>> shared;
    unsigned running = 0;
    bool alone = false;
};
inline void barrier() { Block::current->wait(); }
template <class T>
T& shared(int number) {
    return Block::current->shared_variable<T>(number);
}

// `arguments` are those that `kernel` passes on, to be recorded.
template <class... Arguments>
void launch(const char* name, dim3 grid, dim3 block, const std::function<void()>& kernel, const Arguments&... arguments) {
    machine_record("launch %s, grid %u %u %u, block %u %u %u", name, grid.x, grid.y, grid.z, block.x, block.y, block.z);
    (record_addresses(arguments), ...);
    if (!machine_starts(block.x * block.y * block.z) || !machine_computes()) return;
    static std::mt19937 random(getenv("CUDA_MACHINE_SEED") ? atoi(getenv("CUDA_MACHINE_SEED")) : 0);
    grid_size = grid;
    block_size = block;
    Block state(kernel, random);
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                block_index = dim3(x, y, z);
                state.run();
            }
}

}  // namespace cuda_machine
