// Depthwise convolution on the CPU: stride 1, odd kernels, "same" padding, float32, one filter per channel.
//
// Every plane (one channel of one image) is copied into a zero-padded buffer, so that the inner loops have no
// borders; blocks of 4 rows x 16 columns are accumulated in registers over all taps. Kernel sizes known at compile
// time (KH, KW > 0) let the compiler unroll the taps; KH = KW = 0 is the general case.
#include <cstring>
#include <vector>

namespace segnext {

constexpr int LANES = 16;  // columns of a block: one AVX-512 or two AVX registers of floats
constexpr int ROWS = 4;    // rows of a block: independent accumulators that hide the latency of the multiply-add

inline int round_up(int n, int multiple) { return (n + multiple - 1) / multiple * multiple; }

// A zero-bordered copy of a plane. The right and lower borders also complete the last block.
struct PaddedPlane {
    int height, width, top, left, pitch;
    std::vector<float> data;

    PaddedPlane(int height, int width, int kh, int kw)
        : height(height), width(width), top(kh / 2), left(kw / 2), pitch(round_up(width, LANES) + kw - 1),
          data((size_t)(round_up(height, ROWS) + kh - 1) * pitch, 0.f) {}

    void fill(const float* plane) {
        for (int h = 0; h < height; h++)
            std::memcpy(&data[(size_t)(h + top) * pitch + left], plane + (size_t)h * width, width * sizeof(float));
    }
};

template <int KH, int KW>
void convolve_plane(const PaddedPlane& x, const float* kernel, int kh_, int kw_, float bias, float* out) {
    const int kh = KH ? KH : kh_, kw = KW ? KW : kw_;
    for (int h0 = 0; h0 < x.height; h0 += ROWS)
        for (int w0 = 0; w0 < x.width; w0 += LANES) {
            float sum[ROWS][LANES];
            for (int r = 0; r < ROWS; r++)
                for (int v = 0; v < LANES; v++) sum[r][v] = bias;
            for (int i = 0; i < kh; i++)
                for (int j = 0; j < kw; j++) {
                    const float tap = kernel[i * kw + j];
                    for (int r = 0; r < ROWS; r++) {
                        const float* row = &x.data[(size_t)(h0 + r + i) * x.pitch + w0 + j];
                        for (int v = 0; v < LANES; v++) sum[r][v] += tap * row[v];
                    }
                }
            const int columns = std::min(LANES, x.width - w0);
            for (int r = 0; r < std::min(ROWS, x.height - h0); r++)
                std::memcpy(out + (size_t)(h0 + r) * x.width + w0, sum[r], columns * sizeof(float));
        }
}

// y[n,c] = x[n,c] * kernel[c] + bias[c]. With `flip`, the kernel is turned by 180 degrees and there is no bias:
// the gradient with respect to the input.
template <int KH, int KW>
void convolve(const float* x, const float* kernels, const float* bias, float* y, int batch, int channels, int height,
              int width, int kh, int kw, bool flip) {
    const size_t plane = (size_t)height * width;
#pragma omp parallel
    {
        PaddedPlane padded(height, width, kh, kw);
        std::vector<float> kernel(kh * kw);
#pragma omp for
        for (int p = 0; p < batch * channels; p++) {
            const int c = p % channels;
            for (int t = 0; t < kh * kw; t++) kernel[t] = kernels[c * kh * kw + (flip ? kh * kw - 1 - t : t)];
            padded.fill(x + p * plane);
            convolve_plane<KH, KW>(padded, kernel.data(), kh, kw, flip ? 0.f : bias[c], y + p * plane);
        }
    }
}

template <int KH, int KW>
void correlate_plane(const PaddedPlane& x, const float* dy, int kh_, int kw_, float* dkernel) {
    const int kh = KH ? KH : kh_, kw = KW ? KW : kw_;
    constexpr int TAPS = KH && KW ? KH * KW : 1;
    if (KH && KW) {  // all taps of a block at once, in registers
        float sum[TAPS][LANES] = {};
        for (int h = 0; h < x.height; h++)
            for (int w0 = 0; w0 < x.width; w0 += LANES) {
                float g[LANES] = {};
                std::memcpy(g, dy + (size_t)h * x.width + w0, std::min(LANES, x.width - w0) * sizeof(float));
                const float* origin = &x.data[(size_t)h * x.pitch + w0];
#pragma GCC unroll 32
                for (int t = 0; t < TAPS; t++) {
                    const float* row = origin + (size_t)(t / kw) * x.pitch + t % kw;
                    for (int v = 0; v < LANES; v++) sum[t][v] += g[v] * row[v];
                }
            }
        for (int t = 0; t < TAPS; t++)
            for (int v = 0; v < LANES; v++) dkernel[t] += sum[t][v];
        return;
    }
    for (int i = 0; i < kh; i++)
        for (int j = 0; j < kw; j++) {
            float sum = 0;
            for (int h = 0; h < x.height; h++) {
                const float* row = &x.data[(size_t)(h + i) * x.pitch + j];
                for (int w = 0; w < x.width; w++) sum += dy[(size_t)h * x.width + w] * row[w];
            }
            dkernel[i * kw + j] += sum;
        }
}

// Gradients with respect to the kernels and the bias, summed over the batch.
template <int KH, int KW>
void correlate(const float* x, const float* dy, float* dkernels, float* dbias, int batch, int channels, int height,
               int width, int kh, int kw) {
    const size_t plane = (size_t)height * width;
#pragma omp parallel
    {
        PaddedPlane padded(height, width, kh, kw);
#pragma omp for
        for (int c = 0; c < channels; c++) {
            float* dkernel = dkernels + (size_t)c * kh * kw;
            std::memset(dkernel, 0, kh * kw * sizeof(float));
            float sum = 0;
            for (int n = 0; n < batch; n++) {
                const size_t p = ((size_t)n * channels + c) * plane;
                padded.fill(x + p);
                correlate_plane<KH, KW>(padded, dy + p, kh, kw, dkernel);
                for (size_t i = 0; i < plane; i++) sum += dy[p + i];
            }
            dbias[c] = sum;
        }
    }
}

// Calls FUNCTION<KH, KW>(...) with the sizes of MSCAN as constants and any other size as the general case.
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
        default: segnext::FUNCTION<0, 0>(__VA_ARGS__);                \
    }

}  // namespace segnext
