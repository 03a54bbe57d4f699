// What translated kernels see of the machine: the threads of a block are fibers (fibers.cc).
#pragma once
#include <cstddef>

#include "operands.h"

namespace cuda_machine {

extern dim3 thread_index, block_index, block_size, grid_size;

void barrier();

// Where the block's shared variable of this number lies.
void* shared_memory(size_t number, size_t size);
template <class T>
T& shared(size_t number) {
    return *(T*)shared_memory(number, sizeof(T));
}

void record_launch(const char* name, dim3 grid, dim3 block);
void run_blocks(dim3 grid, dim3 block, void (*call)(const void* kernel), const void* kernel);

// `arguments` are those that `kernel` passes on, to be recorded.
template <class Kernel, class... Arguments>
void launch(const char* name, dim3 grid, dim3 block, const Kernel& kernel, const Arguments&... arguments) {
    record_launch(name, grid, block);
    (record_addresses(arguments), ...);
    run_blocks(grid, block, [](const void* called) { (*(const Kernel*)called)(); }, &kernel);
}

}  // namespace cuda_machine
