// y = x + branch, scaled by a factor of its channel and one of its image, on CUDA, float32; planes_cuda.h comes first.
namespace segnext {

struct Residual {
    int batch, channels, pixels;
};

static __global__ void __launch_bounds__(THREADS) sum_scaled(const float* x, const float* branch, const float* scale,
                                                             const float* keep, float* y, Residual s) {
    const float factor = scale[blockIdx.x % s.channels] * keep[blockIdx.x / s.channels];
    each_pixel(s.pixels, [&](int, size_t at) { y[at] = x[at] + branch[at] * factor; });
}

static __global__ void __launch_bounds__(THREADS) scaled(const float* dy, const float* scale, const float* keep,
                                                         float* dbranch, Residual s) {
    const float factor = scale[blockIdx.x % s.channels] * keep[blockIdx.x / s.channels];
    each_pixel(s.pixels, [&](int, size_t at) { dbranch[at] = dy[at] * factor; });
}

inline void add_scaled(const float* x, const float* branch, const float* scale, const float* keep, float* y,
                       const Residual& s) {
    sum_scaled<<<pieces(s.batch * s.channels, s.pixels), THREADS>>>(x, branch, scale, keep, y, s);
}

// `sums` holds a figure of each plane.
inline void add_scaled_gradient(const float* dy, const float* branch, const float* scale, const float* keep,
                                float* dbranch, float* dscale, float* sums, const Residual& s) {
    scaled<<<pieces(s.batch * s.channels, s.pixels), THREADS>>>(dy, scale, keep, dbranch, s);
    sum_channels(Products{dy, branch}, dscale, sums, s.batch, s.channels, s.pixels, keep);
}

}  // namespace segnext
