// Depthwise convolution on the CPU: stride 1, odd kernels, "same" padding, float32, one filter per channel; and the GELU
// after it, while the result is in the cache, where that is asked for.
#include <vector>

namespace segnext {

// y[n,c] = x[n,c] * kernel[c] + bias[c]
template <int KH, int KW>
void convolve(const float* x, const float* kernels, const float* biases, float* y, const Maps& s, bool activate) {
#pragma omp parallel
    {
        Block in(s, std::max(KH, KW) / 2), out(s, 0);
#pragma omp for
        for (int job = 0; job < s.batch * s.groups(); job++) {
            const int first = job % s.groups() * LANES, count = std::min(LANES, s.channels - first);
            const ptrdiff_t offset = ((ptrdiff_t)(job / s.groups()) * s.channels + first) * s.plane();
            in.load(x + offset, s.plane(), count);
            Filter<KH, KW>(kernels + first * KH * KW, biases + first, count).apply(in, out);
            if (activate) out.change(out, [](float value, float) { return gelu(value); });
            out.store(y + offset, s.plane(), count);
        }
    }
}

// Gradients with respect to the input, the kernels and the bias; those of kernels and bias are of each image, added up in
// order. What the GELU was given, if there is one, is worked out again, and what it gave goes to `activated`; that may be
// `dy` itself.
template <int KH, int KW>
void convolve_gradient(const float* x, const float* dy, const float* kernels, const float* biases, float* dx,
                       float* dkernels, float* dbiases, const Maps& s, float* activated) {
    const size_t weights = (size_t)s.channels * KH * KW;
    std::vector<float> own(s.batch * (weights + s.channels));
#pragma omp parallel
    {
        Block in(s, std::max(KH, KW) / 2), slope(s, std::max(KH, KW) / 2), out(s, 0);
#pragma omp for
        for (int job = 0; job < s.batch * s.groups(); job++) {
            const int n = job / s.groups(), first = job % s.groups() * LANES, count = std::min(LANES, s.channels - first);
            const ptrdiff_t offset = ((ptrdiff_t)n * s.channels + first) * s.plane();
            const Filter<KH, KW> filter(kernels + first * KH * KW, biases + first, count);
            in.load(x + offset, s.plane(), count);
            slope.load(dy + offset, s.plane(), count);
            if (activated) {
                filter.apply(in, out);
                slope.change(out, [](float value, float input) { return value * gelu_slope(input); });
                out.change(out, [](float value, float) { return gelu(value); });
                out.store(activated + offset, s.plane(), count);
            }
            filter_gradient<KH, KW>(in, slope, &own[n * weights + first * KH * KW],
                                    &own[s.batch * weights + n * s.channels + first], count);
            filter.turned().apply(slope, out);
            out.store(dx + offset, s.plane(), count);
        }
    }
    add_up(own.data(), s.batch, weights, dkernels);
    add_up(own.data() + s.batch * weights, s.batch, s.channels, dbiases);
}

// Calls FUNCTION<KH, KW>(...) for the sizes of MSCAN, which depthwise.py asks for alone.
#define SEGNEXT_DISPATCH_KERNEL(FUNCTION, kh, kw, ...)                \
    switch ((kh) * 100 + (kw)) {                                      \
        case 303: segnext::FUNCTION<3, 3>(__VA_ARGS__); break;        \
        case 505: segnext::FUNCTION<5, 5>(__VA_ARGS__); break;        \
        case 107: segnext::FUNCTION<1, 7>(__VA_ARGS__); break;        \
        case 701: segnext::FUNCTION<7, 1>(__VA_ARGS__); break;        \
        case 111: segnext::FUNCTION<1, 11>(__VA_ARGS__); break;       \
        case 1101: segnext::FUNCTION<11, 1>(__VA_ARGS__); break;      \
        case 121: segnext::FUNCTION<1, 21>(__VA_ARGS__); break;       \
        case 2101: segnext::FUNCTION<21, 1>(__VA_ARGS__); break;      \
        default: LOGf << "no depthwise kernel of this size";          \
    }

}  // namespace segnext
