// A step of AdamW for one parameter, on the CPU and on CUDA, float32.
#include <cmath>

namespace segnext {

struct AdamW {
    const float *parameter, *gradient, *first, *second;
    float *new_parameter, *new_first, *new_second;
    // kept: of the parameter after decay; unbias: 1 / sqrt(correction2). 1 - beta2 has too few digits in float32 to be
    // worked out here.
    float beta1, rest1, beta2, rest2, eps, kept, rate, unbias;

    SEGNEXT_EACH void operator()(size_t i) const {
        const float g = gradient[i];
        const float m = beta1 * first[i] + rest1 * g, v = beta2 * second[i] + rest2 * g * g;
        new_first[i] = m;
        new_second[i] = v;
        new_parameter[i] = kept * parameter[i] - rate * m / (sqrtf(v) * unbias + eps);
    }
};

// Steps of N parameters, of so many elements each.
#ifdef __CUDACC__
template <int N>
struct Steps {  // what a kernel is given by value: at most 4 KiB
    AdamW of[N];
    unsigned counts[N];
};

template <int N>
static __global__ void __launch_bounds__(256) each_of(Steps<N> steps) {
    const AdamW& step = steps.of[blockIdx.y];
    for (unsigned i = blockIdx.x * 256 + threadIdx.x; i < steps.counts[blockIdx.y]; i += gridDim.x * 256) step(i);
}

template <int N>
void launch(const AdamW (&steps)[N], const size_t (&counts)[N]) {
    Steps<N> all;
    unsigned most = 0;
    for (int p = 0; p < N; p++) {
        all.of[p] = steps[p];
        all.counts[p] = counts[p];
        most = all.counts[p] > most ? all.counts[p] : most;
    }
    const unsigned blocks = (most + 1023) / 1024;  // four elements a thread
    each_of<N><<<dim3(blocks < 1024 ? blocks : 1024, N), 256>>>(all);
}
#else
template <int N>
void launch(const AdamW (&steps)[N], const size_t (&counts)[N]) {
    for (int p = 0; p < N; p++) launch(steps[p], counts[p]);
}
#endif

}  // namespace segnext
