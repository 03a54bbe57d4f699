// Square tiles of maps (batch, channels, height, width) in shared memory, for depthwise convolutions on CUDA. Pixels are of
// a type T, float, __half or __nv_bfloat16; everything else is float.
//
// A block covers SIDE x SIDE pixels of a plane (one channel of one image). Its threads stand side by side along a row, so
// that they read and write neighbouring addresses, and each has ROWS pixels below each other: a value that was read
// serves several of them.
#pragma once
#include <cstddef>

namespace segnext {

constexpr int ROWS = 4;   // pixels of a thread
constexpr int LANES = 8;  // threads that share in adding up one figure of a block
template <int SIDE>
constexpr int CREW = SIDE * SIDE / ROWS;  // threads of a block

struct Maps {
    int batch, channels, height, width;

    __host__ __device__ int planes() const { return batch * channels; }
    __host__ __device__ int pixels() const { return height * width; }
    template <int SIDE>
    __host__ __device__ int tiles() const {  // of a plane
        return ((height + SIDE - 1) / SIDE) * ((width + SIDE - 1) / SIDE);
    }
};

// A tile of a plane, and the first of this thread's pixels in it.
template <int SIDE>
struct Place {
    int channel, top, left, row, column;
    size_t plane;  // where its pixels begin

    __device__ Place(const Maps& maps, int image, int channel, int tile)
        : channel(channel), row(threadIdx.x / SIDE * ROWS), column(threadIdx.x % SIDE) {
        const int across = (maps.width + SIDE - 1) / SIDE;
        top = tile / across * SIDE;
        left = tile % across * SIDE;
        plane = (size_t)(image * maps.channels + channel) * maps.pixels();
    }
    // Calls f(which of the thread's pixels, place in the maps) for those within the plane.
    template <class F>
    __device__ void each(const Maps& maps, const F& f) const {
#pragma unroll
        for (int r = 0; r < ROWS; r++)
            if (top + row + r < maps.height && left + column < maps.width)
                f(r, plane + (size_t)(top + row + r) * maps.width + left + column);
    }
};

// The tile of a block that has one.
template <int SIDE>
static __device__ Place<SIDE> own_tile(const Maps& maps) {
    const int tiles = maps.tiles<SIDE>(), plane = blockIdx.x / tiles;
    return {maps, plane / maps.channels, plane % maps.channels, (int)(blockIdx.x % tiles)};
}

// Values of a tile with TALL rows above and below and WIDE columns on both sides.
template <int SIDE, int TALL, int WIDE>
struct Tile {
    static constexpr int HEIGHT = SIDE + 2 * TALL, WIDTH = SIDE + 2 * WIDE;
    float data[HEIGHT * WIDTH];

    // f(place in the maps) within the plane, and 0 outside.
    template <class F>
    __device__ void fill(const Maps& maps, const Place<SIDE>& place, const F& f) {
        for (int i = threadIdx.x; i < HEIGHT * WIDTH; i += CREW<SIDE>) {
            const int h = place.top + i / WIDTH - TALL, w = place.left + i % WIDTH - WIDE;
            const bool inside = h >= 0 && h < maps.height && w >= 0 && w < maps.width;
            data[i] = inside ? f(place.plane + (size_t)h * maps.width + w) : 0.f;
        }
    }
    __device__ float at(int row, int column) const { return data[(row + TALL) * WIDTH + column + WIDE]; }
};

// A channel's taps, turned by 180 degrees with `flip`, for all threads of a block, after a barrier.
template <int COUNT>
static __device__ void load_taps(const float* kernel, float* taps, bool flip, int crew) {
    for (int t = threadIdx.x; t < COUNT; t += crew) taps[t] = kernel[flip ? COUNT - 1 - t : t];
}

// sum[r] += the kernel at pixel r.
template <int KH, int KW, class Tile>
static __device__ void convolve(const Tile& tile, const float* taps, int row, int column, float (&sum)[ROWS]) {
#pragma unroll
    for (int t = 0; t < KH * KW; t++) {
        const float tap = taps[t];
#pragma unroll
        for (int r = 0; r < ROWS; r++) sum[r] += tap * tile.at(row + r + t / KW - KH / 2, column + t % KW - KW / 2);
    }
}

// sums[t] += value at pixel r * the tile's at the pixel that tap t reaches from there; BACK: that reaches it by tap t.
template <int KH, int KW, bool BACK, class Tile>
static __device__ void correlate(const Tile& tile, const float (&values)[ROWS], int row, int column, float* sums) {
#pragma unroll
    for (int t = 0; t < KH * KW; t++) {
        const int down = BACK ? KH / 2 - t / KW : t / KW - KH / 2, right = BACK ? KW / 2 - t % KW : t % KW - KW / 2;
#pragma unroll
        for (int r = 0; r < ROWS; r++) sums[t] += values[r] * tile.at(row + r + down, column + right);
    }
}

// Adds up a number of figures of all threads of a block, in a fixed order: all, then LANES, then one thread for each
// figure, which calls put(figure, sum). `memory` is shared and holds figures * (CREW + LANES).
template <int FIGURES, int SIDE, class Put>
static __device__ void add_up_figures(const float (&own)[FIGURES], float* memory, const Put& put) {
    constexpr int crew = CREW<SIDE>;
    float* lanes = memory + FIGURES * crew;
    __syncthreads();
#pragma unroll
    for (int f = 0; f < FIGURES; f++) memory[f * crew + threadIdx.x] = own[f];
    __syncthreads();
    for (int i = threadIdx.x; i < FIGURES * LANES; i += crew) {
        float sum = 0.f;
        for (int t = i % LANES; t < crew; t += LANES) sum += memory[i / LANES * crew + t];
        lanes[i] = sum;
    }
    __syncthreads();
    for (int f = threadIdx.x; f < FIGURES; f += crew) {
        float sum = 0.f;
        for (int lane = 0; lane < LANES; lane++) sum += lanes[f * LANES + lane];
        put(f, sum);
    }
}

// Calls f(place) for the tiles of a channel that a block of `shares` adds up: every `shares`-th one of all images.
template <int SIDE, class F>
static __device__ void each_tile(const Maps& maps, int channel, int share, int shares, const F& f) {
    const int tiles = maps.tiles<SIDE>();
    for (int i = share; i < maps.batch * tiles; i += shares) f(Place<SIDE>(maps, i / tiles, channel, i % tiles));
}

}  // namespace segnext
