// Normalisation of maps (batch, channels, pixels) on CUDA; planes_cuda.h comes first. Maps are of types float, __half or
// __nv_bfloat16, each its own; everything else is float. A block adds up a plane, one thread then planes, or, for batch norm,
// every block that needs them. A pixel's mean over its channels is a thread's: neighbouring threads read neighbouring pixels.

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

template <class T>
static __device__ float number(const T* x, size_t at) {
    return static_cast<float>(x[at]);
}

// What has come to an element of x beside the norm, where anything has.
template <class X>
static __device__ float beside_at(const X* beside, size_t at) {
    return beside ? number(beside, at) : 0.f;
}

// Mean and sum of squared distances from it, of a plane a block: a mean that is far above the deviation costs nothing.
template <class X>
static __global__ void __launch_bounds__(THREADS) plane_statistics(const X* x, float* sums, Norm norm) {
    __shared__ float shared[THREADS];
    const X* plane = x + (size_t)blockIdx.x * norm.pixels;
    float sum = 0.f, squares = 0.f;
    for (int i = threadIdx.x; i < norm.pixels; i += THREADS) sum += number(plane, i);
    const float mean = add_up(sum, shared) / norm.pixels;
    for (int i = threadIdx.x; i < norm.pixels; i += THREADS)
        squares += (number(plane, i) - mean) * (number(plane, i) - mean);
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

template <class X>
static __global__ void pixel_statistics(const X* x, float* mean, float* variance, Norm norm) {
    const int row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= norm.rows()) return;
    const X* first = x + (size_t)(row / norm.pixels) * norm.channels * norm.pixels + row % norm.pixels;
    float sum = 0.f, squares = 0.f;
    for (int c = 0; c < norm.channels; c++) sum += number(first, (size_t)c * norm.pixels);
    const float own = sum / norm.channels;
    for (int c = 0; c < norm.channels; c++) {
        const float apart = number(first, (size_t)c * norm.pixels) - own;
        squares += apart * apart;
    }
    mean[row] = own;
    variance[row] = squares / norm.channels;
}

template <class X, class Y>
static __global__ void __launch_bounds__(THREADS) scale(const X* x, const float* mean, const float* variance,
                                                        const float* weight, const float* bias, Y* y, Norm norm) {
    const int channel = blockIdx.x % norm.channels;
    each_pixel(norm.pixels, [&](int pixel, size_t at) {
        const int row = norm.row(blockIdx.x, pixel);
        y[at] = Y((number(x, at) - mean[row]) * norm.inverse(variance, row) * weight[channel] + bias[channel]);
    });
}

// What a batch moves towards itself: running mean and, made unbiased by a factor, variance. Null where there is nothing to.
struct Moving {
    const float *old_mean, *old_variance;
    float *new_mean, *new_variance;
    float momentum, unbias;

    __device__ void move(int row, float mean, float variance) const {
        if (!new_mean) return;
        new_mean[row] = old_mean[row] + (mean - old_mean[row]) * momentum;
        new_variance[row] = old_variance[row] + (variance * unbias - old_variance[row]) * momentum;
    }
};

static __global__ void move(const float* mean, const float* variance, Moving moving, int rows) {
    const int row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row < rows) moving.move(row, mean[row], variance[row]);
}

// `scale` for batch norm, where every block joins the planes of its channel itself; the first one writes what comes of it.
template <class X, class Y>
static __global__ void __launch_bounds__(THREADS) scale_channel(const X* x, const float* sums, const float* weight,
                                                                const float* bias, Y* y, float* means, float* variances,
                                                                Moving moving, Norm norm) {
    __shared__ float shared[THREADS];
    const int channel = blockIdx.x % norm.channels;
    float total = 0.f, squares = 0.f;
    for (int b = threadIdx.x; b < norm.batch; b += THREADS) total += sums[2 * (b * norm.channels + channel)];
    const float mean = add_up(total, shared) / norm.batch;
    for (int b = threadIdx.x; b < norm.batch; b += THREADS) {
        const float* plane = sums + 2 * (b * norm.channels + channel);
        squares += plane[1] + norm.pixels * ((plane[0] - mean) * (plane[0] - mean));
    }
    const float variance = add_up(squares, shared) / ((float)norm.batch * norm.pixels);
    const float factor = 1.f / sqrtf(variance + norm.epsilon);
    each_pixel(norm.pixels, [&](int, size_t at) {
        y[at] = Y((number(x, at) - mean) * factor * weight[channel] + bias[channel]);
    });
    if (blockIdx.x >= norm.channels || blockIdx.y > 0 || threadIdx.x > 0) return;
    means[channel] = mean;
    variances[channel] = variance;
    moving.move(channel, mean, variance);
}

// The sums over a plane of dy, plain and times the normalised x.
template <class X, class Y>
static __global__ void __launch_bounds__(THREADS) plane_gradients(const X* x, const Y* dy, const float* mean,
                                                                  const float* variance, float* sums, Norm norm) {
    __shared__ float shared[THREADS];
    const size_t first = (size_t)blockIdx.x * norm.pixels;
    float plain = 0.f, scaled = 0.f;
    for (int i = threadIdx.x; i < norm.pixels; i += THREADS) {
        const int row = norm.row(blockIdx.x, i);
        const float slope = number(dy, first + i);
        plain += slope;
        scaled += slope * (number(x, first + i) - mean[row]) * norm.inverse(variance, row);
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

template <class X, class Y>
static __global__ void pixel_gradients(const X* x, const Y* dy, const float* mean, const float* variance,
                                       const float* weight, float* plain, float* scaled, Norm norm) {
    const int row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= norm.rows()) return;
    const size_t first = (size_t)(row / norm.pixels) * norm.channels * norm.pixels + row % norm.pixels;
    float total = 0.f, product = 0.f;
    for (int c = 0; c < norm.channels; c++) {
        const size_t at = first + (size_t)c * norm.pixels;
        total += weight[c] * number(dy, at);
        product += weight[c] * number(dy, at) * (number(x, at) - mean[row]);
    }
    plain[row] = total / norm.channels;
    scaled[row] = product * norm.inverse(variance, row) / norm.channels;
}

template <class X, class Y>
static __global__ void __launch_bounds__(THREADS) slopes(const X* x, const Y* dy, const float* mean,
                                                         const float* variance, const float* weight, const float* plain,
                                                         const float* scaled, const X* beside, X* dx, Norm norm) {
    const float w = weight[blockIdx.x % norm.channels];
    each_pixel(norm.pixels, [&](int pixel, size_t at) {
        const int row = norm.row(blockIdx.x, pixel);
        const float k = norm.inverse(variance, row), normal = (number(x, at) - mean[row]) * k;
        dx[at] = X(k * (w * number(dy, at) - plain[row] - normal * scaled[row]) + beside_at(beside, at));
    });
}

// `slopes` for batch norm, where every block joins the planes of its channel itself; the first one writes the gradients of
// weight and bias. `fixed`: the statistics are constants.
template <class X, class Y>
static __global__ void __launch_bounds__(THREADS) channel_slopes(const X* x, const Y* dy, const float* means,
                                                                 const float* variances, const float* weight,
                                                                 const float* sums, const X* beside, X* dx,
                                                                 float* dweight, float* dbias, bool fixed, Norm norm) {
    __shared__ float shared[THREADS];
    const int channel = blockIdx.x % norm.channels;
    float plain = 0.f, scaled = 0.f;
    for (int b = threadIdx.x; b < norm.batch; b += THREADS) {
        plain += sums[2 * (b * norm.channels + channel)];
        scaled += sums[2 * (b * norm.channels + channel) + 1];
    }
    plain = add_up(plain, shared);
    scaled = add_up(scaled, shared);
    const float share = fixed ? 0.f : 1.f / ((float)norm.batch * norm.pixels);
    const float mean = means[channel], k = norm.inverse(variances, channel), w = weight[channel] * k;
    each_pixel(norm.pixels, [&](int, size_t at) {
        const float slope = w * (number(dy, at) - share * plain - (number(x, at) - mean) * k * share * scaled);
        dx[at] = X(slope + beside_at(beside, at));
    });
    if (blockIdx.x >= norm.channels || blockIdx.y > 0 || threadIdx.x > 0) return;
    dweight[channel] = scaled;
    dbias[channel] = plain;
}

inline int blocks(int threads) { return (threads + THREADS - 1) / THREADS; }

inline void move_statistics(const float* mean, const float* variance, const Moving& moving, int rows) {
    move<<<blocks(rows), THREADS>>>(mean, variance, moving, rows);
}

// `sums` holds two figures of each plane.
template <class X>
void statistics(const X* x, float* mean, float* variance, float* sums, const Norm& norm) {
    if (norm.over == CHANNELS) {
        pixel_statistics<<<blocks(norm.rows()), THREADS>>>(x, mean, variance, norm);
        return;
    }
    plane_statistics<<<norm.planes(), THREADS>>>(x, sums, norm);
    row_statistics<<<blocks(norm.rows()), THREADS>>>(sums, mean, variance, norm);
}

template <class X, class Y>
void normalise(const X* x, const float* mean, const float* variance, const float* weight, const float* bias, Y* y,
               const Norm& norm) {
    scale<<<pieces(norm.planes(), norm.pixels), THREADS>>>(x, mean, variance, weight, bias, y, norm);
}

// Both; and the running statistics of batch norm.
template <class X, class Y>
void normalise_by_own(const X* x, const float* weight, const float* bias, Y* y, float* mean, float* variance,
                      const Moving& moving, float* sums, const Norm& norm) {
    if (norm.over != BATCH) {
        statistics(x, mean, variance, sums, norm);
        normalise(x, mean, variance, weight, bias, y, norm);
        return;
    }
    plane_statistics<<<norm.planes(), THREADS>>>(x, sums, norm);
    scale_channel<<<pieces(norm.planes(), norm.pixels), THREADS>>>(x, sums, weight, bias, y, mean, variance, moving, norm);
}

// Gradients of weight and bias; and for every row the means of weight * dy, plain and times the normalised x, which are
// what the statistics pass on to x.
template <class X, class Y>
void parameter_gradients(const X* x, const Y* dy, const float* mean, const float* variance, const float* weight,
                         float* dweight, float* dbias, float* plain, float* scaled, float* sums, const Norm& norm) {
    plane_gradients<<<norm.planes(), THREADS>>>(x, dy, mean, variance, sums, norm);
    const int last = norm.over == GROUP && norm.rows() > norm.channels ? norm.rows() : norm.channels;
    channel_gradients<<<blocks(last), THREADS>>>(sums, weight, dweight, dbias, plain, scaled, norm);
    if (norm.over == CHANNELS)
        pixel_gradients<<<blocks(norm.rows()), THREADS>>>(x, dy, mean, variance, weight, plain, scaled, norm);
}

// The gradient of x, with what has come to it `beside` the norm; `plain` and `scaled` as above.
template <class X, class Y>
void input_gradient(const X* x, const Y* dy, const float* mean, const float* variance, const float* weight,
                    const float* plain, const float* scaled, const X* beside, X* dx, const Norm& norm) {
    slopes<<<pieces(norm.planes(), norm.pixels), THREADS>>>(x, dy, mean, variance, weight, plain, scaled, beside, dx, norm);
}

// All gradients; `fixed`: the statistics are constants. `memory` holds two figures of each plane and two of each row.
template <class X, class Y>
void gradients(const X* x, const Y* dy, const float* mean, const float* variance, const float* weight, const X* beside,
               X* dx, float* dweight, float* dbias, bool fixed, float* memory, const Norm& norm) {
    if (norm.over == BATCH) {
        plane_gradients<<<norm.planes(), THREADS>>>(x, dy, mean, variance, memory, norm);
        channel_slopes<<<pieces(norm.planes(), norm.pixels), THREADS>>>(x, dy, mean, variance, weight, memory, beside,
                                                                        dx, dweight, dbias, fixed, norm);
        return;
    }
    float *plain = memory + 2 * norm.planes(), *scaled = plain + norm.rows();
    parameter_gradients(x, dy, mean, variance, weight, dweight, dbias, plain, scaled, memory, norm);
    input_gradient(x, dy, mean, variance, weight, plain, scaled, beside, dx, norm);
}

}  // namespace segnext
