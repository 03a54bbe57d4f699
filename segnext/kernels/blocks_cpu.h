// Depthwise convolutions on the CPU, float32, "same" padding: LANES channels of an image at a time. Their values of a
// pixel lie side by side, so that every tap is one multiply-add for all of them, and small planes waste nothing.
#include <vector>

namespace segnext {

constexpr int NEAR = 4;  // neighbouring outputs at a time: independent sums that hide the latency of the multiply-add

struct Maps {
    int batch, channels, height, width;

    ptrdiff_t plane() const { return (ptrdiff_t)height * width; }
    int groups() const { return (channels + LANES - 1) / LANES; }
};

// LANES channels of an image within a border of zeros.
class Block {
  public:
    const int height, width, border, pitch;

    Block(const Maps& s, int border)
        : height(s.height), width(s.width), border(border), pitch(s.width + 2 * border),
          memory((size_t)((s.height + 2 * border) * pitch + 1) * LANES, 0.f) {
        void* start = memory.data();
        size_t space = memory.size() * sizeof(float);
        data = (Lanes*)std::align(sizeof(Lanes), sizeof(Lanes), start, space);
    }
    Block(const Block&) = delete;

    Lanes* row(int h) { return data + (ptrdiff_t)(h + border) * pitch + border; }
    const Lanes* row(int h) const { return const_cast<Block*>(this)->row(h); }

    void load(const float* planes, ptrdiff_t plane, int count) {
        const Axis channels(plane), pixels(1);
        std::vector<ptrdiff_t> offsets(width);
        for (int w = 0; w < width; w++) offsets[w] = w;
        for (int h = 0; h < height; h++)
            pack<LANES>(planes + (ptrdiff_t)h * width, channels, pixels, offsets.data(), 0, count, 0, width, (float*)row(h));
    }

    void store(float* planes, ptrdiff_t plane, int count) const {
        for (int h = 0; h < height; h++) {
            const float* from = (const float*)row(h);
            float* to = planes + (ptrdiff_t)h * width;
            int w = 0;
            for (; w + 8 <= width; w += 8)
                for (int c = 0; c < count; c += 8) {
                    if (c + 8 <= count) {
                        transpose_eight(from + w * LANES + c, LANES, to + c * plane + w, plane);
                        continue;
                    }
                    for (int i = c; i < count; i++)
                        for (int v = w; v < w + 8; v++) to[i * plane + v] = from[v * LANES + i];
                }
            for (; w < width; w++)
                for (int c = 0; c < count; c++) to[c * plane + w] = from[w * LANES + c];
        }
    }

    // Every element becomes f(itself, that of another block).
    template <class F>
    void change(const Block& other, const F& f) {
        for (int h = 0; h < height; h++) {
            float* to = (float*)row(h);
            const float* from = (const float*)other.row(h);
#pragma omp simd
            for (int i = 0; i < width * LANES; i++) to[i] = f(to[i], from[i]);
        }
    }

    void copy(const Block& other) {
        for (int h = 0; h < height; h++) std::memcpy(row(h), other.row(h), width * sizeof(Lanes));
    }

  private:
    std::vector<float> memory;
    Lanes* data;
};

// The filters of LANES channels, tap by tap.
template <int KH, int KW>
struct Filter {
    alignas(sizeof(Lanes)) Lanes taps[KH * KW], bias;

    Filter(const float* weights, const float* biases, int count) : bias() {
        for (int t = 0; t < KH * KW; t++)
            for (int c = 0; c < LANES; c++) taps[t][c] = c < count ? weights[c * KH * KW + t] : 0.f;
        for (int c = 0; c < count; c++) bias[c] = biases[c];
    }

    // The filter of the gradient with respect to the input.
    Filter turned() const {
        Filter filter = *this;
        for (int t = 0; t < KH * KW; t++) filter.taps[t] = taps[KH * KW - 1 - t];
        filter.bias = Lanes{};
        return filter;
    }

    template <int COUNT>
    void apply(const Lanes* from, int pitch, Lanes* to, bool add) const {
        Lanes sum[COUNT];
        for (int i = 0; i < COUNT; i++) sum[i] = bias;
        for (int t = 0; t < KH * KW; t++)
            for (int i = 0; i < COUNT; i++) sum[i] += taps[t] * from[t / KW * pitch + t % KW + i];
        for (int i = 0; i < COUNT; i++) to[i] = add ? to[i] + sum[i] : sum[i];
    }

    void apply(const Block& x, Block& y, bool add = false) const {
        for (int h = 0; h < x.height; h++) {
            const Lanes* from = x.row(h - KH / 2) - KW / 2;
            Lanes* to = y.row(h);
            int w = 0;
            for (; w + NEAR <= x.width; w += NEAR) apply<NEAR>(from + w, x.pitch, to + w, add);
            for (; w < x.width; w++) apply<1>(from + w, x.pitch, to + w, add);
        }
    }
};

// The gradient of a filter, stored as its weights and biases are.
template <int KH, int KW>
void filter_gradient(const Block& x, const Block& dy, float* dweights, float* dbiases, int count) {
    Lanes sum[KH * KW] = {}, total = {};
    for (int h = 0; h < x.height; h++) {
        const Lanes *slope = dy.row(h), *from = x.row(h - KH / 2) - KW / 2;
        for (int w = 0; w < x.width; w++) {
            total += slope[w];
#pragma GCC unroll 32
            for (int t = 0; t < KH * KW; t++) sum[t] += slope[w] * from[t / KW * x.pitch + t % KW + w];
        }
    }
    for (int c = 0; c < count; c++) {
        for (int t = 0; t < KH * KW; t++) dweights[c * KH * KW + t] = sum[t][c];
        dbiases[c] = total[c];
    }
}

// The sum of `count` arrays of `size`, in order: the same bits for any number of threads.
inline void add_up(const float* arrays, int count, size_t size, float* sum) {
    std::fill_n(sum, size, 0.f);
    for (int n = 0; n < count; n++)
        for (size_t i = 0; i < size; i++) sum[i] += arrays[n * size + i];
}

}  // namespace segnext
