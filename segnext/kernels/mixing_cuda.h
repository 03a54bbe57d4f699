// The depthwise 3x3 convolution and the GELU of MSCAN's MLP on CUDA; tiles_cuda.h and functions.h come first. `h` is what
// the first 1x1 convolution gives before its bias, `shift`, is added.
namespace segnext {

// y = gelu((h + shift) * kernels + biases)
template <int SIDE, class T>
static __global__ void __launch_bounds__(CREW<SIDE>) mix(const T* h, const float* shift, const float* kernels,
                                                         const float* biases, T* y, Maps maps) {
    __shared__ Tile<SIDE, 1, 1> tile;
    __shared__ float taps[9];
    const Place<SIDE> place = own_tile<SIDE>(maps);
    const float offset = shift[place.channel];
    load_taps<9>(kernels + place.channel * 9, taps, false, CREW<SIDE>);
    tile.fill(maps, place, [&](size_t at) { return static_cast<float>(h[at]) + offset; });
    __syncthreads();
    float sum[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++) sum[r] = biases[place.channel];
    convolve<3, 3>(tile, taps, place.row, place.column, sum);
    place.each(maps, [&](int r, size_t at) { y[at] = T(gelu(sum[r])); });
}

struct MixParts {
    float *kernels, *biases, *shift;  // [share][channel][tap]
};

template <int SIDE>
union MixMemory {
    struct {
        Tile<SIDE, 2, 2> h;
        Tile<SIDE, 1, 1> slope;  // of what the GELU is given
        float taps[9];
    } tiles;
    float sums[11 * (CREW<SIDE> + LANES)];
};

// dh, and y once more, which was not kept; parts of the gradients of kernels, biases and shift.
template <int SIDE, class T>
static __global__ void __launch_bounds__(CREW<SIDE>) mix_gradient(const T* h, const float* shift, const float* kernels,
                                                                  const float* biases, const T* dy, T* y, T* dh,
                                                                  MixParts parts, Maps maps, int shares) {
    __shared__ MixMemory<SIDE> memory;
    const int channel = blockIdx.x / shares, share = blockIdx.x % shares;
    const float offset = shift[channel], bias = biases[channel];
    float sums[11] = {};
    each_tile<SIDE>(maps, channel, share, shares, [&](const Place<SIDE>& place) {
        const Tile<SIDE, 2, 2>& map = memory.tiles.h;
        Tile<SIDE, 1, 1>& slope = memory.tiles.slope;
        float* taps = memory.tiles.taps;
        __syncthreads();
        load_taps<9>(kernels + channel * 9, taps, false, CREW<SIDE>);
        memory.tiles.h.fill(maps, place, [&](size_t at) { return static_cast<float>(h[at]) + offset; });
        __syncthreads();
        for (int i = threadIdx.x; i < slope.HEIGHT * slope.WIDTH; i += CREW<SIDE>) {
            const int row = i / slope.WIDTH - 1, column = i % slope.WIDTH - 1;
            const int down = place.top + row, right = place.left + column;
            float own = 0.f;
            if (down >= 0 && down < maps.height && right >= 0 && right < maps.width) {
                float before = bias;
#pragma unroll
                for (int t = 0; t < 9; t++) before += taps[t] * map.at(row + t / 3 - 1, column + t % 3 - 1);
                const size_t at = place.plane + (size_t)down * maps.width + right;
                own = static_cast<float>(dy[at]) * gelu_slope(before);
                if (row >= 0 && row < SIDE && column >= 0 && column < SIDE) y[at] = T(gelu(before));
            }
            slope.data[i] = own;
        }
        __syncthreads();
        float gradient[ROWS] = {}, value[ROWS] = {};
#pragma unroll
        for (int t = 0; t < 9; t++)
#pragma unroll
            for (int r = 0; r < ROWS; r++)
                gradient[r] += taps[8 - t] * slope.at(place.row + r + t / 3 - 1, place.column + t % 3 - 1);
        place.each(maps, [&](int r, size_t at) {
            dh[at] = T(gradient[r]);
            value[r] = map.at(place.row + r, place.column);
            sums[9] += slope.at(place.row + r, place.column);
            sums[10] += gradient[r];
        });
        correlate<3, 3, true>(slope, value, place.row, place.column, sums);
    });
    add_up_figures<11, SIDE>(sums, memory.sums, [&](int f, float sum) {
        const int place = share * maps.channels + channel;
        if (f < 9)
            parts.kernels[place * 9 + f] = sum;
        else
            (f == 9 ? parts.biases : parts.shift)[place] = sum;
    });
}

// The launches, by the size of planes.
template <int SIDE>
struct Mixing {
    Maps maps;
    int shares;

    template <class T>
    void mix(const T* h, const float* shift, const float* kernels, const float* biases, T* y) const {
        const int blocks = maps.planes() * maps.tiles<SIDE>(), threads = CREW<SIDE>;
        segnext::mix<SIDE><<<blocks, threads>>>(h, shift, kernels, biases, y, maps);
    }
    template <class T>
    void gradient(const T* h, const float* shift, const float* kernels, const float* biases, const T* dy, T* y, T* dh,
                  const MixParts& parts) const {
        const int blocks = maps.channels * shares, threads = CREW<SIDE>;
        mix_gradient<SIDE><<<blocks, threads>>>(h, shift, kernels, biases, dy, y, dh, parts, maps, shares);
    }
};

}  // namespace segnext
