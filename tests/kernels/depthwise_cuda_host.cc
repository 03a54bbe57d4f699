// Runs the blocks, steps and threads of the CUDA kernels one after another on the CPU: a step of all threads, then the
// next. Within a step, threads must not depend on each other, hence any order must do.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

namespace segnext {

static bool backwards = false;

template <class Kernel>
void launch(const Kernel& kernel) {
    for (int block = 0; block < kernel.blocks(); block++) {
        auto shared = std::make_unique<typename Kernel::Shared>();
        std::vector<typename Kernel::Private> own(Kernel::THREADS);
        std::memset(static_cast<void*>(shared.get()), 0xff, sizeof(*shared));  // NaN: nothing may be read unwritten
        std::memset(static_cast<void*>(own.data()), 0xff, own.size() * sizeof(own[0]));
        for (int number = 0; number < kernel.steps(block); number++)
            for (int i = 0; i < Kernel::THREADS; i++) {
                const int thread = backwards ? Kernel::THREADS - 1 - i : i;
                kernel.step(number, block, thread, *shared, own[thread]);
            }
    }
}

}  // namespace segnext

#include "depthwise_cuda.h"

using segnext::Shape;

// What a GPU's __nv_bfloat16 and __half do: they are read as float, and written rounded to the nearest, ties to even.
struct BFloat16 {
    uint16_t bits;
    explicit BFloat16(float value) {
        uint32_t word;
        std::memcpy(&word, &value, sizeof word);
        bits = (word + 0x7fff + (word >> 16 & 1)) >> 16;
    }
    explicit operator float() const {
        const uint32_t word = (uint32_t)bits << 16;
        float value;
        std::memcpy(&value, &word, sizeof value);
        return value;
    }
};

struct Half {
    uint16_t bits;
    explicit Half(float value) : bits(_cvtss_sh(value, _MM_FROUND_TO_NEAREST_INT)) {}
    explicit operator float() const { return _cvtsh_ss(bits); }
};

template <int KH, int KW, int SIDE, class T>
void both(const T* x, const T* dy, const float* kernels, const float* bias, T* y, T* dx, float* dkernels, float* dbias,
          float* partial, const Shape& shape, int shares) {
    segnext::convolve<KH, KW, SIDE>(x, kernels, bias, y, shape, false);
    segnext::convolve<KH, KW, SIDE>(dy, kernels, bias, dx, shape, true);
    segnext::correlate<KH, KW, SIDE>(x, dy, dkernels, dbias, partial, shape, shares);
}

#define CASE(KH, KW)                                                                                        \
    if (fixed && shape.kh == KH && shape.kw == KW)                                                          \
        return side == 16                                                                                   \
            ? both<KH, KW, 16>(x, dy, kernels, bias, y, dx, dkernels, dbias, partial, shape, shares)        \
            : both<KH, KW, 32>(x, dy, kernels, bias, y, dx, dkernels, dbias, partial, shape, shares);

template <class T>
void run_all(const T* x, const T* dy, const float* kernels, const float* bias, T* y, T* dx, float* dkernels,
             float* dbias, float* partial, const int* sizes, int shares, int side, bool fixed, bool backwards) {
    segnext::backwards = backwards;
    const Shape shape{sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5]};
    CASE(3, 3) CASE(5, 5) CASE(1, 7) CASE(7, 1) CASE(1, 11) CASE(11, 1) CASE(1, 21) CASE(21, 1)
    side == 16 ? both<0, 0, 16>(x, dy, kernels, bias, y, dx, dkernels, dbias, partial, shape, shares)
               : both<0, 0, 32>(x, dy, kernels, bias, y, dx, dkernels, dbias, partial, shape, shares);
}

#define ENTRY(NAME, T)                                                                                                 \
    extern "C" void NAME(const T* x, const T* dy, const float* kernels, const float* bias, T* y, T* dx,                \
                         float* dkernels, float* dbias, float* partial, const int* sizes, int shares, int side,        \
                         bool fixed, bool backwards) {                                                                 \
        run_all(x, dy, kernels, bias, y, dx, dkernels, dbias, partial, sizes, shares, side, fixed, backwards);         \
    }
ENTRY(run_float32, float)
ENTRY(run_bfloat16, BFloat16)
ENTRY(run_float16, Half)
