// Elementwise work for the CPU and for CUDA: what is done for an element is an ordinary function, and `launch` calls it
// for all of them, on CUDA by a thread each.
#pragma once
#include <cstddef>

#ifdef __CUDACC__
#define SEGNEXT_EACH __host__ __device__ __forceinline__
#else
#define SEGNEXT_EACH inline __attribute__((always_inline))
#endif

namespace segnext {

#ifdef __CUDACC__
template <class Element>  // static, since every operator is a library of its own, and all share their global names
static __global__ void __launch_bounds__(256) each(Element element, size_t count) {
    const size_t step = (size_t)gridDim.x * blockDim.x;
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) element(i);
}

template <class Element>
void launch(const Element& element, size_t count) {
    const size_t blocks = (count + 255) / 256;
    if (count) each<<<blocks < (1u << 20) ? blocks : (1u << 20), 256>>>(element, count);
}
#elif !defined(SEGNEXT_OWN_LAUNCH)
template <class Element>
void launch(const Element& element, size_t count) {
#pragma omp parallel for simd if (parallel : count > 1 << 15)
    for (size_t i = 0; i < count; i++) element(i);
}
#endif

}  // namespace segnext
