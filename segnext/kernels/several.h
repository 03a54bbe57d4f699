// The same elementwise work on several arrays in one launch; each.h comes first.
#pragma once

namespace segnext {

#ifdef __CUDACC__
template <class Element, int N>
struct Several {  // what a kernel is given by value: at most 4 KiB
    Element of[N];
    unsigned counts[N];
};

template <class Element, int N>
static __global__ void __launch_bounds__(256) each_of(Several<Element, N> several) {
    const Element& element = several.of[blockIdx.y];
    for (unsigned i = blockIdx.x * 256 + threadIdx.x; i < several.counts[blockIdx.y]; i += gridDim.x * 256) element(i);
}

// N arrays, of so many elements each.
template <class Element, int N>
void launch(const Element (&elements)[N], const size_t (&counts)[N]) {
    Several<Element, N> several;
    unsigned most = 0;
    for (int n = 0; n < N; n++) {
        several.of[n] = elements[n];
        several.counts[n] = counts[n];
        most = several.counts[n] > most ? several.counts[n] : most;
    }
    const unsigned blocks = (most + 1023) / 1024;  // four elements a thread
    each_of<<<dim3(blocks < 1024 ? blocks : 1024, N), 256>>>(several);
}
#else
template <class Element, int N>
void launch(const Element (&elements)[N], const size_t (&counts)[N]) {
    for (int n = 0; n < N; n++) launch(elements[n], counts[n]);
}
#endif

}  // namespace segnext
