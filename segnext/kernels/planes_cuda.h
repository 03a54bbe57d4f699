// Maps (batch, channels, pixels) on CUDA, plane by plane (one channel of one image). Sums have the same bits every time:
// nothing is added atomically, a block adds up a plane in a fixed order, another one then the planes of a channel.
#pragma once
#include <cstddef>

namespace segnext {

constexpr int THREADS = 256;
constexpr int EACH = 1024;  // pixels of a block that computes them one by one

// Blocks of a launch whose kernel calls `each_pixel`: a plane is blockIdx.x.
inline dim3 pieces(int planes, int pixels) { return dim3(planes, (pixels + EACH - 1) / EACH); }

// Calls f(pixel, place in memory) for the pixels of a block.
template <class F>
static __device__ void each_pixel(int pixels, const F& f) {
    const int first = blockIdx.y * EACH, end = first + EACH < pixels ? first + EACH : pixels;
    for (int i = first + threadIdx.x; i < end; i += THREADS) f(i, (size_t)blockIdx.x * pixels + i);
}

// The sum of a figure of all threads of a block, for all of them; `shared` holds THREADS figures.
static __device__ float add_up(float figure, float* shared) {
    shared[threadIdx.x] = figure;
    __syncthreads();
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
        __syncthreads();
    }
    const float sum = shared[0];
    __syncthreads();  // before it is used again
    return sum;
}

// What is added up: the elements, their squares, or their products with others.
template <class T>
struct Values {
    const T* x;
    __device__ float operator()(size_t at) const { return static_cast<float>(x[at]); }
};
struct Squares {
    const float* x;
    __device__ float operator()(size_t at) const { return x[at] * x[at]; }
};
struct Products {
    const float *x, *y;
    __device__ float operator()(size_t at) const { return x[at] * y[at]; }
};

template <class Term>
static __global__ void __launch_bounds__(THREADS) plane_sums(Term term, float* sums, size_t pixels, size_t count) {
    __shared__ float shared[THREADS];
    const size_t first = blockIdx.x * pixels, end = first + pixels < count ? first + pixels : count;
    float sum = 0.f;
    for (size_t at = first + threadIdx.x; at < end; at += THREADS) sum += term(at);
    sum = add_up(sum, shared);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// A block for each channel; `factors` (batch), where there are any, are multiplied with the images' sums.
template <class T>
static __global__ void __launch_bounds__(THREADS) channel_sums(const float* sums, const float* factors, T* totals, int batch,
                                                               float scale) {
    __shared__ float shared[THREADS];
    float sum = 0.f;
    for (int b = threadIdx.x; b < batch; b += THREADS)
        sum += sums[(size_t)b * gridDim.x + blockIdx.x] * (factors ? factors[b] : 1.f);
    sum = add_up(sum, shared);
    if (threadIdx.x == 0) totals[blockIdx.x] = static_cast<T>(sum * scale);
}

// totals[c] = scale * sum of factors[image] * term over the pixels of channel c; `sums` holds a figure of each plane.
template <class Term, class T>
void sum_channels(const Term& term, T* totals, float* sums, int batch, int channels, size_t pixels,
                  const float* factors = nullptr, float scale = 1.f) {
    plane_sums<<<batch * channels, THREADS>>>(term, sums, pixels, batch * channels * pixels);
    channel_sums<<<channels, THREADS>>>(sums, factors, totals, batch, scale);
}

// total[0] = scale * sum of term over `count` elements, by as many blocks as `sums` has figures.
template <class Term>
void sum_all(const Term& term, float* total, float* sums, int blocks, size_t count, float scale) {
    plane_sums<<<blocks, THREADS>>>(term, sums, (count + blocks - 1) / blocks, count);
    channel_sums<<<1, THREADS>>>(sums, (const float*)nullptr, total, blocks, scale);
}

}  // namespace segnext
