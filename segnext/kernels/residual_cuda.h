// y = x + (branch + bias + shortcut), the sum scaled by a factor of its channel and one of its image, on CUDA; planes_cuda.h
// comes first. x, y and factors are float, branch and shortcut of a type T; bias and shortcut may be null.
namespace segnext {

struct Residual {
    int batch, channels, pixels;
};

template <class T>
struct Branch {
    const T *branch, *shortcut;
    const float *bias, *scale, *keep;

    __device__ float operator()(size_t at, int channel) const {
        return static_cast<float>(branch[at]) + (shortcut ? static_cast<float>(shortcut[at]) : 0.f) +
               (bias ? bias[channel] : 0.f);
    }
};

template <class T>
static __global__ void __launch_bounds__(THREADS) sum_scaled(const float* x, Branch<T> branch, float* y, Residual s) {
    const int channel = blockIdx.x % s.channels;
    const float factor = branch.scale[channel] * branch.keep[blockIdx.x / s.channels];
    each_pixel(s.pixels, [&](int, size_t at) { y[at] = x[at] + branch(at, channel) * factor; });
}

// Parts of the gradients, one for each image: [image][channel]. `bias` may be null.
struct ResidualParts {
    float *scale, *bias;
};

template <class T>
static __global__ void __launch_bounds__(THREADS) sum_scaled_gradient(const float* dy, Branch<T> branch, T* dbranch,
                                                                      T* dshortcut, ResidualParts parts, Residual s) {
    __shared__ float shared[THREADS];
    const int channel = blockIdx.x % s.channels;
    const float keep = branch.keep[blockIdx.x / s.channels], factor = branch.scale[channel] * keep;
    float plain = 0.f, product = 0.f;
    for (int i = threadIdx.x; i < s.pixels; i += THREADS) {
        const size_t at = (size_t)blockIdx.x * s.pixels + i;
        const float slope = dy[at];
        plain += slope;
        product += slope * branch(at, channel);
        dbranch[at] = T(slope * factor);
        if (dshortcut) dshortcut[at] = T(slope * factor);
    }
    plain = add_up(plain, shared);
    product = add_up(product, shared);
    if (threadIdx.x > 0) return;
    parts.scale[blockIdx.x] = product * keep;
    if (parts.bias) parts.bias[blockIdx.x] = plain * factor;
}

template <class T>
void add_scaled(const float* x, const Branch<T>& branch, float* y, const Residual& s) {
    const dim3 grid = pieces(s.batch * s.channels, s.pixels);
    sum_scaled<<<grid, THREADS>>>(x, branch, y, s);
}

template <class T>
void add_scaled_gradient(const float* dy, const Branch<T>& branch, T* dbranch, T* dshortcut, const ResidualParts& parts,
                         const Residual& s) {
    sum_scaled_gradient<<<s.batch * s.channels, THREADS>>>(dy, branch, dbranch, dshortcut, parts, s);
}

}  // namespace segnext
