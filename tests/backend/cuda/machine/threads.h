// The threads of a block as real threads with real barriers, two blocks at a time: for ThreadSanitizer,
// AddressSanitizer and UBSan. CUDA_MACHINE_NO_BARRIER=n leaves the n-th barrier of every thread out (from 1), which a
// sanitizer has to report.
#pragma once
#include <pthread.h>

#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace cuda_machine {

inline thread_local dim3 thread_index, block_index, block_size, grid_size;

class Block {
  public:
    explicit Block(unsigned threads) { pthread_barrier_init(&barrier, nullptr, threads); }
    ~Block() { pthread_barrier_destroy(&barrier); }
    Block(const Block&) = delete;

    void wait() { pthread_barrier_wait(&barrier); }

    // What all threads of the block call at its end, before the next one takes their places.
    void end() {
        if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD) shared.clear();
        pthread_barrier_wait(&barrier);
    }

    template <class T>
    T& shared_variable(int number) {
        std::lock_guard<std::mutex> lock(mutex);
        std::shared_ptr<void>& memory = shared[number];
        if (!memory) {
            memory.reset(aligned_alloc(64, (sizeof(T) + 63) / 64 * 64), free);
            memset(memory.get(), 0xff, sizeof(T));  // not zero, as on a GPU
        }
        return *(T*)memory.get();
    }

  private:
    pthread_barrier_t barrier;
    std::mutex mutex;
    std::map<int, std::shared_ptr<void>> shared;
};

inline thread_local Block* block;
inline thread_local int barriers;  // that this thread has come to

inline void barrier() {
    static const int left_out = getenv("CUDA_MACHINE_NO_BARRIER") ? atoi(getenv("CUDA_MACHINE_NO_BARRIER")) : 0;
    if (++barriers != left_out) block->wait();
}
template <class T>
T& shared(int number) {
    return block->shared_variable<T>(number);
}

template <class Kernel, class... Arguments>
void launch(const char*, dim3 grid, dim3 size, Kernel kernel, const Arguments&...) {
    const unsigned blocks = grid.x * grid.y * grid.z, threads = size.x * size.y * size.z, together = std::min(blocks, 2u);
    std::vector<std::unique_ptr<Block>> places;
    std::vector<std::thread> pool;
    for (unsigned first = 0; first < together; first++) {
        places.emplace_back(new Block(threads));
        for (unsigned t = 0; t < threads; t++)
            pool.emplace_back([=, place = places.back().get()] {
                block = place;
                grid_size = grid;
                block_size = size;
                thread_index = dim3(t % size.x, t / size.x % size.y, t / size.x / size.y);
                for (unsigned b = first; b < blocks; b += together) {
                    block_index = dim3(b % grid.x, b / grid.x % grid.y, b / grid.x / grid.y);
                    barriers = 0;
                    kernel();
                    place->end();
                }
            });
    }
    for (std::thread& thread : pool) thread.join();
}

}  // namespace cuda_machine
