// CUDA's language for g++, included before a translated source: kernels are functions, the threads of a block fibers.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#undef __global__
#undef __device__
#undef __host__
#undef __forceinline__
#undef __launch_bounds__
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __CUDACC__ 1
#define warpSize 32

#include "fibers.h"

#define threadIdx cuda_machine::thread_index
#define blockIdx cuda_machine::block_index
#define blockDim cuda_machine::block_size
#define gridDim cuda_machine::grid_size
#define __syncthreads() cuda_machine::barrier()

using std::max;
using std::min;

// Atomic to ThreadSanitizer, too.
template <class T, class Change>
T atomic_change(T* place, Change change) {
    T before, after;
    __atomic_load(place, &before, __ATOMIC_RELAXED);
    do after = change(before);
    while (!__atomic_compare_exchange(place, &before, &after, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return before;
}
template <class T, class U> T atomicAdd(T* p, U v) { return atomic_change(p, [=](T old) { return T(old + T(v)); }); }
template <class T, class U> T atomicMax(T* p, U v) { return atomic_change(p, [=](T old) { return T(v) > old ? T(v) : old; }); }
template <class T, class U> T atomicMin(T* p, U v) { return atomic_change(p, [=](T old) { return T(v) < old ? T(v) : old; }); }
template <class T, class U> T atomicAnd(T* p, U v) { return atomic_change(p, [=](T old) { return old & T(v); }); }
template <class T, class U> T atomicOr(T* p, U v) { return atomic_change(p, [=](T old) { return old | T(v); }); }
template <class T, class U> T atomicXor(T* p, U v) { return atomic_change(p, [=](T old) { return old ^ T(v); }); }
template <class T, class U> T atomicExch(T* p, U v) { return atomic_change(p, [=](T) { return T(v); }); }
template <class T> T atomicCAS(T* p, T expected, T v) { return atomic_change(p, [=](T old) { return old == expected ? v : old; }); }

template <class To, class From>
To same_bits(From value) {
    To bits;
    static_assert(sizeof bits == sizeof value, "");
    memcpy(&bits, &value, sizeof bits);
    return bits;
}
inline int __float_as_int(float value) { return same_bits<int>(value); }
inline float __int_as_float(int value) { return same_bits<float>(value); }
inline long long __double_as_longlong(double value) { return same_bits<long long>(value); }
inline double __longlong_as_double(long long value) { return same_bits<double>(value); }
inline float rsqrtf(float value) { return 1.f / sqrtf(value); }
