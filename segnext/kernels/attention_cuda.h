// What is between the three 1x1 convolutions of MSCAN's attention, on CUDA, forward and backward; tiles_cuda.h and
// functions.h come first. A map before its bias was added is called `a` (of the first convolution) or `m` (of the gate's).
namespace segnext {

// The strip convolutions: 1xk, then kx1, for k = 7, 11, 21.
struct Strips {
    const float *rows[3], *row_biases[3], *columns[3], *column_biases[3];
};
constexpr int REACH = 10;  // of the longest

// y = gelu(a + shift) * 5x5 kernels + biases
template <int SIDE, class T>
static __global__ void __launch_bounds__(CREW<SIDE>) square(const T* a, const float* shift, const float* kernels,
                                                            const float* biases, T* y, Maps maps) {
    __shared__ Tile<SIDE, 2, 2> tile;
    __shared__ float taps[25];
    const Place<SIDE> place = own_tile<SIDE>(maps);
    const float offset = shift[place.channel];
    load_taps<25>(kernels + place.channel * 25, taps, false, CREW<SIDE>);
    tile.fill(maps, place, [&](size_t at) { return gelu(static_cast<float>(a[at]) + offset); });
    __syncthreads();
    float sum[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++) sum[r] = biases[place.channel];
    convolve<5, 5>(tile, taps, place.row, place.column, sum);
    place.each(maps, [&](int r, size_t at) { y[at] = T(sum[r]); });
}

// The columns of a strip for SIDE rows, as wide as its rows reach.
template <int SIDE>
using Columns = Tile<SIDE, 0, REACH>;

// sum[r] += row(column(x)) at pixel r, and column(row bias): the taps of the column that reach into the plane, times it.
template <int K, int SIDE>
static __device__ void add_strip(const Tile<SIDE, REACH, REACH>& tile, const float* rows, const float* columns,
                                 float row_bias, bool flip, Columns<SIDE>& between, float* taps, const Maps& maps,
                                 const Place<SIDE>& place, float (&sum)[ROWS]) {
    constexpr int wide = SIDE + K - 1;
    load_taps<K>(columns, taps, flip, CREW<SIDE>);
    load_taps<K>(rows, taps + K, flip, CREW<SIDE>);
    __syncthreads();
    for (int i = threadIdx.x; i < wide * (SIDE / ROWS); i += CREW<SIDE>) {
        const int row = i / wide * ROWS, column = i % wide - K / 2;
        float above[ROWS] = {};
        convolve<K, 1>(tile, taps, row, column, above);
#pragma unroll
        for (int r = 0; r < ROWS; r++) between.data[(row + r) * Columns<SIDE>::WIDTH + column + REACH] = above[r];
    }
    __syncthreads();
    convolve<1, K>(between, taps + K, place.row, place.column, sum);
    if (row_bias != 0.f)
        for (int r = 0; r < ROWS; r++) {
            const int h = place.top + place.row + r;
            float inside = 0.f;
            for (int t = 0; t < K; t++) inside += h + t - K / 2 >= 0 && h + t - K / 2 < maps.height ? taps[t] : 0.f;
            sum[r] += row_bias * inside;
        }
    __syncthreads();  // before the next strip
}

// y = x + the sum of column(row(x)) over the strips. With `flip`, taps are turned by 180 degrees and there are no biases:
// the gradient with respect to x, since rows and columns may change places.
template <int SIDE, class T>
static __global__ void __launch_bounds__(CREW<SIDE>) add_strips(const T* x, Strips strips, T* y, Maps maps, bool flip) {
    __shared__ Tile<SIDE, REACH, REACH> tile;
    __shared__ Columns<SIDE> between;
    __shared__ float taps[42];
    const Place<SIDE> place = own_tile<SIDE>(maps);
    const int c = place.channel;
    tile.fill(maps, place, [&](size_t at) { return static_cast<float>(x[at]); });
    float sum[ROWS], bias[3];
    for (int i = 0; i < 3; i++) bias[i] = flip ? 0.f : strips.row_biases[i][c];
    const float biases = flip ? 0.f : strips.column_biases[0][c] + strips.column_biases[1][c] + strips.column_biases[2][c];
    __syncthreads();
#pragma unroll
    for (int r = 0; r < ROWS; r++) sum[r] = tile.at(place.row + r, place.column) + biases;
    add_strip<7>(tile, strips.rows[0] + c * 7, strips.columns[0] + c * 7, bias[0], flip, between, taps, maps, place, sum);
    add_strip<11>(tile, strips.rows[1] + c * 11, strips.columns[1] + c * 11, bias[1], flip, between, taps, maps, place, sum);
    add_strip<21>(tile, strips.rows[2] + c * 21, strips.columns[2] + c * 21, bias[2], flip, between, taps, maps, place, sum);
    place.each(maps, [&](int r, size_t at) { y[at] = T(sum[r]); });
}

// z = (m + bias) * gelu(a + shift)
template <class T>
static __global__ void __launch_bounds__(THREADS) gate(const T* m, const float* bias, const T* a, const float* shift, T* z,
                                                       int channels, int pixels) {
    const float add = bias[blockIdx.x % channels], offset = shift[blockIdx.x % channels];
    each_pixel(pixels, [&](int, size_t at) {
        z[at] = T((static_cast<float>(m[at]) + add) * gelu(static_cast<float>(a[at]) + offset));
    });
}

// Gradients of both factors of the gate, and z itself once more; dbias: a part for each image.
template <class T>
static __global__ void __launch_bounds__(THREADS) gate_gradient(const T* m, const float* bias, const T* a,
                                                                const float* shift, const T* dz, T* z, T* dm, T* dgate,
                                                                float* dbias, int channels, int pixels) {
    __shared__ float shared[THREADS];
    const float add = bias[blockIdx.x % channels], offset = shift[blockIdx.x % channels];
    float sum = 0.f;
    for (int i = threadIdx.x; i < pixels; i += THREADS) {
        const size_t at = (size_t)blockIdx.x * pixels + i;
        const float map = static_cast<float>(m[at]) + add, open = gelu(static_cast<float>(a[at]) + offset);
        const float slope = static_cast<float>(dz[at]);
        z[at] = T(map * open);
        dm[at] = T(slope * open);
        dgate[at] = T(slope * map);
        sum += slope * open;
    }
    sum = add_up(sum, shared);
    if (threadIdx.x == 0) dbias[blockIdx.x] = sum;
}

// A part of the gradients of the strips' kernels and biases for each share of the tiles: [share][channel][tap].
struct StripParts {
    float *rows[3], *row_biases[3], *columns[3], *column_biases[3];
};

template <int SIDE>
union StripMemory {
    struct {
        Tile<SIDE, 0, REACH> x;
        Tile<SIDE, REACH, 0> dy;
        float taps[42];
    } tiles;
    float sums[44 * (CREW<SIDE> + LANES)];
};

template <int K, int SIDE, class T>
static __device__ void strip_gradient(const T* x, const T* dy, const Strips& strips, const StripParts& parts, int i,
                                      const Maps& maps, int shares, StripMemory<SIDE>& memory) {
    const int channel = blockIdx.x / shares, share = blockIdx.x % shares;
    const float row_bias = strips.row_biases[i][channel];
    float *columns = memory.tiles.taps, *rows = columns + K;
    float sums[2 * K + 2] = {};  // of the row, of the column, of their biases
    each_tile<SIDE>(maps, channel, share, shares, [&](const Place<SIDE>& place) {
        __syncthreads();
        load_taps<K>(strips.columns[i] + channel * K, columns, true, CREW<SIDE>);
        load_taps<K>(strips.rows[i] + channel * K, rows, false, CREW<SIDE>);
        memory.tiles.x.fill(maps, place, [&](size_t at) { return static_cast<float>(x[at]); });
        memory.tiles.dy.fill(maps, place, [&](size_t at) { return static_cast<float>(dy[at]); });
        __syncthreads();
        float row[ROWS] = {}, drow[ROWS] = {}, inside[ROWS] = {}, drow_inside[ROWS] = {};
        convolve<1, K>(memory.tiles.x, rows, place.row, place.column, row);
        convolve<K, 1>(memory.tiles.dy, columns, place.row, place.column, drow);
        place.each(maps, [&](int r, size_t) {
            inside[r] = row[r] + row_bias;
            drow_inside[r] = drow[r];
            sums[2 * K] += drow[r];
            sums[2 * K + 1] += memory.tiles.dy.at(place.row + r, place.column);
        });
        correlate<1, K, false>(memory.tiles.x, drow_inside, place.row, place.column, sums);
        correlate<K, 1, true>(memory.tiles.dy, inside, place.row, place.column, sums + K);
    });
    add_up_figures<2 * K + 2, SIDE>(sums, memory.sums, [&](int f, float sum) {
        const int place = share * maps.channels + channel;
        if (f < K)
            parts.rows[i][place * K + f] = sum;
        else if (f < 2 * K)
            parts.columns[i][place * K + f - K] = sum;
        else
            (f == 2 * K ? parts.row_biases[i] : parts.column_biases[i])[place] = sum;
    });
}

// Of what add_strips was given; blockIdx.y is the strip.
template <int SIDE, class T>
static __global__ void __launch_bounds__(CREW<SIDE>) strip_gradients(const T* x, const T* dy, Strips strips,
                                                                     StripParts parts, Maps maps, int shares) {
    __shared__ StripMemory<SIDE> memory;
    if (blockIdx.y == 0) strip_gradient<7>(x, dy, strips, parts, 0, maps, shares, memory);
    if (blockIdx.y == 1) strip_gradient<11>(x, dy, strips, parts, 1, maps, shares, memory);
    if (blockIdx.y == 2) strip_gradient<21>(x, dy, strips, parts, 2, maps, shares, memory);
}

// Of `square`: da, where `dgate` comes to gelu(a + shift) beside dy, and parts of its kernels', biases' and shifts' gradients.
struct SquareParts {
    float *kernels, *biases, *shift;
};

template <int SIDE>
union SquareMemory {
    struct {
        Tile<SIDE, 2, 2> dy;
        float taps[25];
    } tile;
    float sums[27 * (CREW<SIDE> + LANES)];
};

template <int SIDE, class T>
static __global__ void __launch_bounds__(CREW<SIDE>) square_gradient(const T* a, const float* shift, const float* kernels,
                                                                     const T* dy, const T* dgate, T* da,
                                                                     SquareParts parts, Maps maps, int shares) {
    __shared__ SquareMemory<SIDE> memory;
    const int channel = blockIdx.x / shares, share = blockIdx.x % shares;
    const float offset = shift[channel];
    float sums[27] = {};
    each_tile<SIDE>(maps, channel, share, shares, [&](const Place<SIDE>& place) {
        __syncthreads();
        load_taps<25>(kernels + channel * 25, memory.tile.taps, true, CREW<SIDE>);
        memory.tile.dy.fill(maps, place, [&](size_t at) { return static_cast<float>(dy[at]); });
        __syncthreads();
        float slope[ROWS] = {}, value[ROWS] = {};
        convolve<5, 5>(memory.tile.dy, memory.tile.taps, place.row, place.column, slope);
        place.each(maps, [&](int r, size_t at) {
            const float before = static_cast<float>(a[at]) + offset;
            const float own = (slope[r] + static_cast<float>(dgate[at])) * gelu_slope(before);
            value[r] = gelu(before);
            da[at] = T(own);
            sums[25] += memory.tile.dy.at(place.row + r, place.column);
            sums[26] += own;
        });
        correlate<5, 5, true>(memory.tile.dy, value, place.row, place.column, sums);
    });
    add_up_figures<27, SIDE>(sums, memory.sums, [&](int f, float sum) {
        const int place = share * maps.channels + channel;
        if (f < 25)
            parts.kernels[place * 25 + f] = sum;
        else
            (f == 25 ? parts.biases : parts.shift)[place] = sum;
    });
}

// The launches, by the size of planes.
template <int SIDE>
struct Attention {
    Maps maps;
    int shares;

    template <class T>
    void square(const T* a, const float* shift, const float* kernels, const float* biases, T* y) const {
        const int blocks = maps.planes() * maps.tiles<SIDE>(), threads = CREW<SIDE>;
        segnext::square<SIDE><<<blocks, threads>>>(a, shift, kernels, biases, y, maps);
    }
    template <class T>
    void add_strips(const T* x, const Strips& strips, T* y, bool flip) const {
        const int blocks = maps.planes() * maps.tiles<SIDE>(), threads = CREW<SIDE>;
        segnext::add_strips<SIDE><<<blocks, threads>>>(x, strips, y, maps, flip);
    }
    template <class T>
    void gate(const T* m, const float* bias, const T* a, const float* shift, T* z) const {
        const dim3 grid = pieces(maps.planes(), maps.pixels());
        segnext::gate<<<grid, THREADS>>>(m, bias, a, shift, z, maps.channels, maps.pixels());
    }
    template <class T>
    void gate_gradient(const T* m, const float* bias, const T* a, const float* shift, const T* dz, T* z, T* dm, T* dgate,
                       float* dbias) const {
        segnext::gate_gradient<<<maps.planes(), THREADS>>>(m, bias, a, shift, dz, z, dm, dgate, dbias, maps.channels,
                                                           maps.pixels());
    }
    template <class T>
    void strip_gradients(const T* x, const T* dy, const Strips& strips, const StripParts& parts) const {
        const dim3 blocks(maps.channels * shares, 3);
        const int threads = CREW<SIDE>;
        segnext::strip_gradients<SIDE><<<blocks, threads>>>(x, dy, strips, parts, maps, shares);
    }
    template <class T>
    void square_gradient(const T* a, const float* shift, const float* kernels, const T* dy, const T* dgate, T* da,
                         const SquareParts& parts) const {
        const int blocks = maps.channels * shares, threads = CREW<SIDE>;
        segnext::square_gradient<SIDE><<<blocks, threads>>>(a, shift, kernels, dy, dgate, da, parts, maps, shares);
    }
};

}  // namespace segnext
