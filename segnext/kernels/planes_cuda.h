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
template <class Figure>
static __device__ Figure add_up(Figure figure, Figure* shared) {
    shared[threadIdx.x] = figure;
    __syncthreads();
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
        __syncthreads();
    }
    const Figure sum = shared[0];
    __syncthreads();  // before it is used again
    return sum;
}

template <class T>
static __global__ void __launch_bounds__(THREADS) plane_sums(const T* x, float* sums, size_t pixels, size_t count) {
    __shared__ float shared[THREADS];
    const size_t first = blockIdx.x * pixels, end = first + pixels < count ? first + pixels : count;
    float sum = 0.f;
    for (size_t at = first + threadIdx.x; at < end; at += THREADS) sum += static_cast<float>(x[at]);
    sum = add_up(sum, shared);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// A block for each channel.
template <class T>
static __global__ void __launch_bounds__(THREADS) channel_sums(const float* sums, T* totals, int batch, float scale) {
    __shared__ float shared[THREADS];
    float sum = 0.f;
    for (int b = threadIdx.x; b < batch; b += THREADS) sum += sums[(size_t)b * gridDim.x + blockIdx.x];
    sum = add_up(sum, shared);
    if (threadIdx.x == 0) totals[blockIdx.x] = static_cast<T>(sum * scale);
}

// The sum of the pixels of each channel of x; `sums` holds a figure of each plane.
template <class T>
void sum_channels(const T* x, T* totals, float* sums, int batch, int channels, size_t pixels) {
    plane_sums<<<batch * channels, THREADS>>>(x, sums, pixels, batch * channels * pixels);
    channel_sums<<<channels, THREADS>>>(sums, totals, batch, 1.f);
}

// total[0] = scale * the sum of `count` elements of x, by as many blocks as `sums` has figures.
template <class T>
void sum_all(const T* x, float* total, float* sums, int blocks, size_t count, float scale) {
    plane_sums<<<blocks, THREADS>>>(x, sums, (count + blocks - 1) / blocks, count);
    channel_sums<<<1, THREADS>>>(sums, total, blocks, scale);
}

}  // namespace segnext
