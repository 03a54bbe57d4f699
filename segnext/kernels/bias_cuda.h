// A bias of maps (batch, channels, pixels) of any type on CUDA, and parts of its gradient; planes_cuda.h comes first.
namespace segnext {

template <class T>
static __global__ void __launch_bounds__(THREADS) add_bias(T* y, const T* bias, int channels, int pixels) {
    const float own = static_cast<float>(bias[blockIdx.x % channels]);
    each_pixel(pixels, [&](int, size_t at) { y[at] = T(static_cast<float>(y[at]) + own); });
}

template <class T>
void add_bias(T* y, const T* bias, int batch, int channels, int pixels) {
    const dim3 grid = pieces(batch * channels, pixels);
    add_bias<<<grid, THREADS>>>(y, bias, channels, pixels);
}

// A figure of each plane.
template <class T>
void sum_planes(const T* x, float* sums, int planes, int pixels) {
    plane_sums<<<planes, THREADS>>>(x, sums, pixels, (size_t)planes * pixels);
}

}  // namespace segnext
