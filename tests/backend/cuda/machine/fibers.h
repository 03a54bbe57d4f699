// The threads of a block as fibers, which take turns in random order at every barrier; blocks run one after another.
// A kernel without barriers is called for one thread after the other.
#pragma once
#include <ucontext.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "recorder.h"

namespace cuda_machine {

inline thread_local dim3 thread_index, block_index, block_size, grid_size;

class Block {
  public:
    Block(const std::function<void()>& kernel, std::mt19937& random) : kernel(kernel), random(random) {}

    // The first thread tells whether there are barriers: without them all others are plain calls.
    void run() {
        const unsigned count = block_size.x * block_size.y * block_size.z;
        if (fibers.size() < count) fibers.resize(count);
        current = this;
        shared.clear();
        resume(0);
        if (fibers[0].done) {
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
        Fiber& fiber = fibers[running];
        swapcontext(&fiber.context, &main);
    }

    template <class T>
    T& shared_variable(int number) {
        std::vector<char>& memory = shared[number];
        if (memory.empty()) memory.assign(sizeof(T) + alignof(max_align_t), char(0xff));  // not zero, as on a GPU
        void* start = memory.data();
        size_t space = memory.size();
        return *(T*)std::align(alignof(max_align_t), sizeof(T), start, space);
    }

    static inline thread_local Block* current;

  private:
    struct Fiber {
        ucontext_t context;
        std::unique_ptr<char[]> stack;
        bool started = false, done = false;
    };
    static constexpr size_t STACK = 1 << 16;

    static void enter() {
        current->kernel();
        Fiber& fiber = current->fibers[current->running];
        fiber.done = true;
        swapcontext(&fiber.context, &current->main);
    }

    // In random order; returns how many have ended.
    unsigned resume_all(std::vector<unsigned>& threads) {
        std::shuffle(threads.begin(), threads.end(), random);
        unsigned done = 0;
        for (unsigned thread : threads) {
            resume(thread);
            done += fibers[thread].done;
        }
        return done;
    }

    void resume(unsigned thread) {
        Fiber& fiber = fibers[running = thread];
        place(thread);
        if (!fiber.started) {
            if (!fiber.stack) fiber.stack.reset(new char[STACK]);
            getcontext(&fiber.context);
            fiber.context.uc_stack.ss_sp = fiber.stack.get();
            fiber.context.uc_stack.ss_size = STACK;
            fiber.context.uc_link = nullptr;
            fiber.started = true;
            fiber.done = false;
            makecontext(&fiber.context, enter, 0);
        }
        swapcontext(&main, &fiber.context);
        if (fiber.done) fiber.started = false;
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
    static inline thread_local std::vector<Fiber> fibers;  // whose stacks are used again
    std::map<int, std::vector<char>> shared;
    ucontext_t main;
    unsigned running = 0;
    bool alone = false;
};
inline void barrier() { Block::current->wait(); }
template <class T>
T& shared(int number) {
    return Block::current->shared_variable<T>(number);
}

inline void launch(const char* name, dim3 grid, dim3 block, const std::function<void()>& kernel) {
    machine_record("launch %s, grid %u %u %u, block %u %u %u", name, grid.x, grid.y, grid.z, block.x, block.y, block.z);
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
