// Names that CUB dropped in CCCL 3 (CUDA 13) and that Jittor 1.3.11.0 still uses.
#pragma once
#include_next <cub/cub.cuh>
#if defined(CCCL_MAJOR_VERSION) && CCCL_MAJOR_VERSION >= 3
#include <cuda/functional>
#include <thrust/iterator/counting_iterator.h>
#include <thrust/iterator/transform_iterator.h>
namespace cub {
__device__ __forceinline__ unsigned int LaneId() {
    unsigned int lane;
    asm("mov.u32 %0, %%laneid;" : "=r"(lane));
    return lane;
}
template <class Value, class Offset = ptrdiff_t>
using CountingInputIterator = thrust::counting_iterator<Value>;
template <class Value, class Operation, class Iterator, class Offset = ptrdiff_t>
using TransformInputIterator = thrust::transform_iterator<Operation, Iterator, Value, Value>;
using Max = ::cuda::maximum<>;
using Min = ::cuda::minimum<>;
using Sum = ::cuda::std::plus<>;
}  // namespace cub
#endif
