// Normalisation of maps (batch, channels, pixels) on CUDA, float32; planes_cuda.h comes first. A block adds up a plane, one
// thread then planes. A pixel's mean over its channels is a thread's: neighbouring threads read neighbouring pixels.

namespace segnext {

enum Over { BATCH, GROUP, CHANNELS };  // what shares a mean: all images of a channel, a group of channels, or one pixel

struct Norm {
    int batch, channels, pixels, groups, over;
    float epsilon;

    __host__ __device__ int planes() const { return batch * channels; }
    __host__ __device__ int rows() const {
        return over == BATCH ? channels : over == GROUP ? batch * groups : batch * pixels;
    }
    // The row, of elements that share a mean, of a pixel of a plane.
    __device__ int row(int plane, int pixel) const {
        const int image = plane / channels, channel = plane % channels;
        if (over == BATCH) return channel;
        return over == GROUP ? image * groups + channel / (channels / groups) : image * pixels + pixel;
    }
    __device__ float inverse(const float* variance, int row) const { return 1.f / sqrtf(variance[row] + epsilon); }
    // Calls f(plane) for the planes of a row, in order; not for CHANNELS.
    template <class F>
    __device__ void planes_of(int row, const F& f) const {
        const int size = channels / groups;
        if (over == BATCH)
            for (int b = 0; b < batch; b++) f(b * channels + row);
        else
            for (int c = 0; c < size; c++) f(row / groups * channels + row % groups * size + c);
    }
};

// Mean and sum of squared distances from it, of a plane a block: a mean that is far above the deviation costs nothing.
static __global__ void __launch_bounds__(THREADS) plane_statistics(const float* x, float* sums, Norm norm) {
    __shared__ float shared[THREADS];
    const float* plane = x + (size_t)blockIdx.x * norm.pixels;
    float sum = 0.f, squares = 0.f;
    for (int i = threadIdx.x; i < norm.pixels; i += THREADS) sum += plane[i];
    const float mean = add_up(sum, shared) / norm.pixels;
    for (int i = threadIdx.x; i < norm.pixels; i += THREADS) squares += (plane[i] - mean) * (plane[i] - mean);
    squares = add_up(squares, shared);
    if (threadIdx.x > 0) return;
    sums[2 * blockIdx.x] = mean;
    sums[2 * blockIdx.x + 1] = squares;
}

// A thread for each row: planes of equal size are joined (Chan et al., Updating Formulae, 1979).
static __global__ void row_statistics(const float* sums, float* mean, float* variance, Norm norm) {
    const int row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= norm.rows()) return;
    double total = 0, squares = 0;
    int count = 0;
    norm.planes_of(row, [&](int plane) { total += sums[2 * plane], count++; });
    const double own = total / count;
    norm.planes_of(row, [&](int plane) {
        const double apart = sums[2 * plane] - own;
        squares += sums[2 * plane + 1] + norm.pixels * apart * apart;
    });
    mean[row] = own;
    variance[row] = squares / ((double)count * norm.pixels);
}

static __global__ void pixel_statistics(const float* x, float* mean, float* variance, Norm norm) {
    const int row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= norm.rows()) return;
    const float* first = x + (size_t)(row / norm.pixels) * norm.channels * norm.pixels + row % norm.pixels;
    float sum = 0.f, squares = 0.f;
    for (int c = 0; c < norm.channels; c++) sum += first[(size_t)c * norm.pixels];
    const float own = sum / norm.channels;
    for (int c = 0; c < norm.channels; c++) {
        const float apart = first[(size_t)c * norm.pixels] - own;
        squares += apart * apart;
    }
    mean[row] = own;
    variance[row] = squares / norm.channels;
}

static __global__ void __launch_bounds__(THREADS) scale(const float* x, const float* mean, const float* variance,
                                                        const float* weight, const float* bias, float* y, Norm norm) {
    const int channel = blockIdx.x % norm.channels;
    each_pixel(norm.pixels, [&](int pixel, size_t at) {
        const int row = norm.row(blockIdx.x, pixel);
        y[at] = (x[at] - mean[row]) * norm.inverse(variance, row) * weight[channel] + bias[channel];
    });
}

// The sums over a plane of dy, plain and times the normalised x.
static __global__ void __launch_bounds__(THREADS) plane_gradients(const float* x, const float* dy, const float* mean,
                                                                  const float* variance, float* sums, Norm norm) {
    __shared__ float shared[THREADS];
    const size_t first = (size_t)blockIdx.x * norm.pixels;
    float plain = 0.f, scaled = 0.f;
    for (int i = threadIdx.x; i < norm.pixels; i += THREADS) {
        const int row = norm.row(blockIdx.x, i);
        plain += dy[first + i];
        scaled += dy[first + i] * (x[first + i] - mean[row]) * norm.inverse(variance, row);
    }
    plain = add_up(plain, shared);
    scaled = add_up(scaled, shared);
    if (threadIdx.x > 0) return;
    sums[2 * blockIdx.x] = plain;
    sums[2 * blockIdx.x + 1] = scaled;
}

// A thread for each channel's gradients of weight and bias, and one for each row's means of weight * dy.
static __global__ void channel_gradients(const float* sums, const float* weight, float* dweight, float* dbias,
                                         float* plain, float* scaled, Norm norm) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < norm.channels) {
        double total = 0, product = 0;
        for (int plane = i; plane < norm.planes(); plane += norm.channels)
            total += sums[2 * plane], product += sums[2 * plane + 1];
        dbias[i] = total;
        dweight[i] = product;
    }
    if (norm.over == CHANNELS || i >= norm.rows()) return;
    double total = 0, product = 0;
    int count = 0;
    norm.planes_of(i, [&](int plane) {
        total += (double)weight[plane % norm.channels] * sums[2 * plane];
        product += (double)weight[plane % norm.channels] * sums[2 * plane + 1];
        count += norm.pixels;
    });
    plain[i] = total / count;
    scaled[i] = product / count;
}

static __global__ void pixel_gradients(const float* x, const float* dy, const float* mean, const float* variance,
                                       const float* weight, float* plain, float* scaled, Norm norm) {
    const int row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= norm.rows()) return;
    const size_t first = (size_t)(row / norm.pixels) * norm.channels * norm.pixels + row % norm.pixels;
    float total = 0.f, product = 0.f;
    for (int c = 0; c < norm.channels; c++) {
        const size_t at = first + (size_t)c * norm.pixels;
        total += weight[c] * dy[at];
        product += weight[c] * dy[at] * (x[at] - mean[row]);
    }
    plain[row] = total / norm.channels;
    scaled[row] = product * norm.inverse(variance, row) / norm.channels;
}

static __global__ void __launch_bounds__(THREADS) slopes(const float* x, const float* dy, const float* mean,
                                                         const float* variance, const float* weight, const float* plain,
                                                         const float* scaled, float* dx, Norm norm) {
    const float w = weight[blockIdx.x % norm.channels];
    each_pixel(norm.pixels, [&](int pixel, size_t at) {
        const int row = norm.row(blockIdx.x, pixel);
        const float k = norm.inverse(variance, row), normal = (x[at] - mean[row]) * k;
        dx[at] = k * (w * dy[at] - plain[row] - normal * scaled[row]);
    });
}

inline void clear(float* values, int count) { cudaMemsetAsync(values, 0, count * sizeof(float), 0); }

inline int blocks(int threads) { return (threads + THREADS - 1) / THREADS; }

// `sums` holds two figures of each plane.
inline void statistics(const float* x, float* mean, float* variance, float* sums, const Norm& norm) {
    if (norm.over == CHANNELS) {
        pixel_statistics<<<blocks(norm.rows()), THREADS>>>(x, mean, variance, norm);
        return;
    }
    plane_statistics<<<norm.planes(), THREADS>>>(x, sums, norm);
    row_statistics<<<blocks(norm.rows()), THREADS>>>(sums, mean, variance, norm);
}

inline void normalise(const float* x, const float* mean, const float* variance, const float* weight, const float* bias,
                      float* y, const Norm& norm) {
    scale<<<pieces(norm.planes(), norm.pixels), THREADS>>>(x, mean, variance, weight, bias, y, norm);
}

// Gradients of weight and bias; and for every row the means of weight * dy, plain and times the normalised x, which are
// what the statistics pass on to x.
inline void parameter_gradients(const float* x, const float* dy, const float* mean, const float* variance,
                                const float* weight, float* dweight, float* dbias, float* plain, float* scaled,
                                float* sums, const Norm& norm) {
    plane_gradients<<<norm.planes(), THREADS>>>(x, dy, mean, variance, sums, norm);
    const int last = norm.over == GROUP && norm.rows() > norm.channels ? norm.rows() : norm.channels;
    channel_gradients<<<blocks(last), THREADS>>>(sums, weight, dweight, dbias, plain, scaled, norm);
    if (norm.over == CHANNELS)
        pixel_gradients<<<blocks(norm.rows()), THREADS>>>(x, dy, mean, variance, weight, plain, scaled, norm);
}

// The gradient of x; `plain` and `scaled` as above, or zeros where the statistics are constants.
inline void input_gradient(const float* x, const float* dy, const float* mean, const float* variance,
                           const float* weight, const float* plain, const float* scaled, float* dx, const Norm& norm) {
    slopes<<<pieces(norm.planes(), norm.pixels), THREADS>>>(x, dy, mean, variance, weight, plain, scaled, dx, norm);
}

}  // namespace segnext
