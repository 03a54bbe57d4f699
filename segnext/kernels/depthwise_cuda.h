// Depthwise convolution on CUDA: stride 1, odd kernels, "same" padding, one filter per channel.
//
// Pixels are of a type T, float, __half or __nv_bfloat16; filters, biases, their gradients and every sum are float.
//
// A kernel is a struct whose blocks work in steps with a barrier after each; what one thread does in a step is an
// ordinary function. `launch` runs the steps on a GPU; tests run the same functions by loops on the CPU.
//
// A block covers SIDE x SIDE pixels of a plane (one channel of one image). Its threads stand side by side along a row,
// so that they read and write neighbouring addresses, and each takes ROWS pixels below each other, so that a tap that
// was read serves ROWS products. Kernel sizes known at compile time (KH, KW > 0) keep the block's pixels and their
// border in shared memory; KH = KW = 0 is the general case, which reads everything from global memory.
#include <cstddef>

#ifdef __CUDACC__
#define SEGNEXT_THREAD __host__ __device__ __forceinline__
#else
#define SEGNEXT_THREAD inline
#endif

namespace segnext {

constexpr int ROWS = 4;   // pixels of a thread
constexpr int LANES = 8;  // threads that share in adding up one figure of a block

struct Shape {
    int batch, channels, height, width, kh, kw;
};

// The value of a plane at row h, column w; zero outside.
template <class T>
SEGNEXT_THREAD float pixel(const T* plane, const Shape& shape, int h, int w) {
    const bool inside = h >= 0 && h < shape.height && w >= 0 && w < shape.width;
    return inside ? static_cast<float>(plane[(size_t)h * shape.width + w]) : 0.f;
}

// The pixels of a block with the border that the kernel reaches into.
template <int KH, int KW, int SIDE>
struct Tile {
    static constexpr bool FIXED = KH > 0;
    static constexpr int WIDTH = FIXED ? SIDE + KW - 1 : 1, HEIGHT = FIXED ? SIDE + KH - 1 : 1;
    float data[HEIGHT * WIDTH];

    template <class T>
    SEGNEXT_THREAD void fill(int thread, int threads, const T* plane, const Shape& shape, int top, int left) {
        for (int p = thread; p < HEIGHT * WIDTH; p += threads)
            data[p] = pixel(plane, shape, top + p / WIDTH - KH / 2, left + p % WIDTH - KW / 2);
    }
};

// How a plane is cut into blocks.
template <int SIDE>
struct Cut {
    int across, count;

    SEGNEXT_THREAD explicit Cut(const Shape& shape)
        : across((shape.width + SIDE - 1) / SIDE), count(across * ((shape.height + SIDE - 1) / SIDE)) {}
    SEGNEXT_THREAD int top(int block) const { return block / across * SIDE; }
    SEGNEXT_THREAD int left(int block) const { return block % across * SIDE; }
};

// y[n,c] = x[n,c] * kernel[c] + bias[c]. With `flip`, the kernel is turned by 180 degrees and there is no bias: the
// gradient with respect to the input.
template <class T, int KH, int KW, int SIDE>
struct Convolve {
    static constexpr bool FIXED = KH > 0;
    static constexpr int THREADS = SIDE * SIDE / ROWS, TAPS = FIXED ? KH * KW : 1;
    struct Shared {
        Tile<KH, KW, SIDE> tile;
        float taps[TAPS];
    };
    struct Private {};

    const T* x;
    const float *kernels, *bias;
    T* y;
    Shape shape;
    bool flip;

    SEGNEXT_THREAD int blocks() const { return shape.batch * shape.channels * Cut<SIDE>(shape).count; }
    SEGNEXT_THREAD int steps(int) const { return 2; }

    SEGNEXT_THREAD void step(int number, int block, int thread, Shared& shared, Private&) const {
        const Cut<SIDE> cut(shape);
        const int plane = block / cut.count, channel = plane % shape.channels;
        const int kh = FIXED ? KH : shape.kh, kw = FIXED ? KW : shape.kw, taps = kh * kw;
        const int top = cut.top(block % cut.count), left = cut.left(block % cut.count);
        const float* kernel = kernels + (size_t)channel * taps;
        const size_t offset = (size_t)plane * shape.height * shape.width;
        if (number == 0) {
            for (int t = thread; FIXED && t < TAPS; t += THREADS) shared.taps[t] = kernel[flip ? TAPS - 1 - t : t];
            if (FIXED) shared.tile.fill(thread, THREADS, x + offset, shape, top, left);
            return;
        }
        const int column = thread % SIDE, row = thread / SIDE * ROWS;
        float sum[ROWS];
#pragma unroll
        for (int r = 0; r < ROWS; r++) sum[r] = flip ? 0.f : bias[channel];
        if (FIXED) {
            const float* origin = shared.tile.data + row * Tile<KH, KW, SIDE>::WIDTH + column;
#pragma unroll
            for (int t = 0; t < TAPS; t++) {
                const float tap = shared.taps[t];
#pragma unroll
                for (int r = 0; r < ROWS; r++)
                    sum[r] += tap * origin[(r + t / kw) * Tile<KH, KW, SIDE>::WIDTH + t % kw];
            }
        } else {
            for (int t = 0; t < taps; t++) {
                const float tap = kernel[flip ? taps - 1 - t : t];
                const int h = top + row + t / kw - kh / 2, w = left + column + t % kw - kw / 2;
                for (int r = 0; r < ROWS; r++) sum[r] += tap * pixel(x + offset, shape, h + r, w);
            }
        }
        const int w = left + column;
        for (int r = 0; r < ROWS; r++) {
            const int h = top + row + r;
            if (h < shape.height && w < shape.width) y[offset + (size_t)h * shape.width + w] = T(sum[r]);
        }
    }
};

// Gradients with respect to the kernels and the bias, in two stages without atomics: the same bits every time. Here
// every block adds up its share of a channel's pixels over the batch: partial[channel][share][taps, then the bias].
// In the general case a block takes one tap; that of the first tap also the bias.
template <class T, int KH, int KW, int SIDE>
struct Correlate {
    static constexpr bool FIXED = KH > 0;
    static constexpr int THREADS = SIDE * SIDE / ROWS, TAPS = FIXED ? KH * KW : 1, FIGURES = TAPS + 1;
    static constexpr int COLUMNS = FIXED ? KW : 1;
    struct Private {
        float sum[FIGURES];
    };
    union Shared {
        Tile<KH, KW, SIDE> tile;
        struct {
            float of_thread[FIGURES][THREADS], of_lane[FIGURES][LANES];
        } sums;
    };

    const T *x, *dy;
    float* partial;
    Shape shape;
    int shares;

    SEGNEXT_THREAD int taps() const { return FIXED ? TAPS : shape.kh * shape.kw; }
    SEGNEXT_THREAD int blocks() const { return shape.channels * shares * (FIXED ? 1 : taps()); }
    SEGNEXT_THREAD int share(int block) const { return block % shares; }
    SEGNEXT_THREAD int channel(int block) const { return block / shares % shape.channels; }
    SEGNEXT_THREAD int tap(int block) const { return block / shares / shape.channels; }  // 0 where kernels are fixed

    // Pieces (tiles of images) that a block adds up: every `shares`-th one.
    SEGNEXT_THREAD int pieces(int block) const {
        return (shape.batch * Cut<SIDE>(shape).count - share(block) + shares - 1) / shares;
    }
    SEGNEXT_THREAD int steps(int block) const { return 2 * pieces(block) + 3; }

    SEGNEXT_THREAD void step(int number, int block, int thread, Shared& shared, Private& own) const {
        const int last = 2 * pieces(block);
        if (number == 0)
#pragma unroll
            for (int f = 0; f < FIGURES; f++) own.sum[f] = 0.f;
        if (number < last)
            add_piece(share(block) + number / 2 * shares, number % 2 == 0, block, thread, shared, own);
        else
            add_up(number - last, block, thread, shared, own);
    }

    SEGNEXT_THREAD void add_piece(int piece, bool fill, int block, int thread, Shared& shared, Private& own) const {
        const Cut<SIDE> cut(shape);
        const int top = cut.top(piece % cut.count), left = cut.left(piece % cut.count);
        const size_t plane = (size_t)(piece / cut.count) * shape.channels + channel(block);
        const size_t offset = plane * shape.height * shape.width;
        if (fill) {
            if (FIXED) shared.tile.fill(thread, THREADS, x + offset, shape, top, left);
            return;
        }
        const int column = thread % SIDE, row = thread / SIDE * ROWS;
        float slope[ROWS];
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            slope[r] = pixel(dy + offset, shape, top + row + r, left + column);
            own.sum[TAPS] += slope[r];
        }
        if (FIXED) {
            const float* origin = shared.tile.data + row * Tile<KH, KW, SIDE>::WIDTH + column;
#pragma unroll
            for (int t = 0; t < TAPS; t++)
#pragma unroll
                for (int r = 0; r < ROWS; r++)
                    own.sum[t] += slope[r] * origin[(r + t / COLUMNS) * Tile<KH, KW, SIDE>::WIDTH + t % COLUMNS];
        } else {
            const int h = top + row + tap(block) / shape.kw - shape.kh / 2;
            const int w = left + column + tap(block) % shape.kw - shape.kw / 2;
            for (int r = 0; r < ROWS; r++) own.sum[0] += slope[r] * pixel(x + offset, shape, h + r, w);
        }
    }

    // Adds up what the threads of a block have, in a fixed order: all, then LANES, then one thread for each figure.
    SEGNEXT_THREAD void add_up(int number, int block, int thread, Shared& shared, const Private& own) const {
        if (number == 0)
#pragma unroll
            for (int f = 0; f < FIGURES; f++) shared.sums.of_thread[f][thread] = own.sum[f];
        for (int i = thread; number == 1 && i < FIGURES * LANES; i += THREADS) {
            const int f = i / LANES, lane = i % LANES;
            float sum = 0.f;
            for (int t = lane; t < THREADS; t += LANES) sum += shared.sums.of_thread[f][t];
            shared.sums.of_lane[f][lane] = sum;
        }
        for (int f = thread; number == 2 && f < FIGURES; f += THREADS) {
            float sum = 0.f;
            for (int lane = 0; lane < LANES; lane++) sum += shared.sums.of_lane[f][lane];
            float* figures = partial + ((size_t)channel(block) * shares + share(block)) * (taps() + 1);
            if (f < TAPS)
                figures[tap(block) + f] = sum;
            else if (tap(block) == 0)
                figures[taps()] = sum;
        }
    }
};

// The second stage: adds up the shares, one thread for each figure of each channel.
struct AddShares {
    static constexpr int THREADS = 128;
    struct Shared {};
    struct Private {};

    const float* partial;
    float *dkernels, *dbias;
    int channels, taps, shares;

    SEGNEXT_THREAD int blocks() const { return (channels * (taps + 1) + THREADS - 1) / THREADS; }
    SEGNEXT_THREAD int steps(int) const { return 1; }

    SEGNEXT_THREAD void step(int, int block, int thread, Shared&, Private&) const {
        const int figure = block * THREADS + thread, channel = figure / (taps + 1), t = figure % (taps + 1);
        if (channel >= channels) return;
        float sum = 0.f;
        for (int s = 0; s < shares; s++) sum += partial[((size_t)channel * shares + s) * (taps + 1) + t];
        if (t < taps)
            dkernels[(size_t)channel * taps + t] = sum;
        else
            dbias[channel] = sum;
    }
};

#ifdef __CUDACC__
template <class Kernel>  // static, since every operator is a library of its own, and all share their global names
static __global__ void __launch_bounds__(Kernel::THREADS) run(Kernel kernel) {
    __shared__ typename Kernel::Shared shared;
    typename Kernel::Private own;
    const int steps = kernel.steps(blockIdx.x);
    for (int number = 0; number < steps; number++) {
        kernel.step(number, blockIdx.x, threadIdx.x, shared, own);
        __syncthreads();
    }
}

template <class Kernel>
void launch(const Kernel& kernel) {
    if (kernel.blocks() > 0) run<<<kernel.blocks(), Kernel::THREADS>>>(kernel);
}
#endif

template <int KH, int KW, int SIDE, class T>
void convolve(const T* x, const float* kernels, const float* bias, T* y, const Shape& shape, bool flip) {
    launch(Convolve<T, KH, KW, SIDE>{x, kernels, bias, y, shape, flip});
}

template <int KH, int KW, int SIDE, class T>
void correlate(const T* x, const T* dy, float* dkernels, float* dbias, float* partial, const Shape& shape, int shares) {
    launch(Correlate<T, KH, KW, SIDE>{x, dy, partial, shape, shares});
    launch(AddShares{partial, dkernels, dbias, shape.channels, shape.kh * shape.kw, shares});
}

}  // namespace segnext
