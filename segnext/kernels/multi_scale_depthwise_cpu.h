// The depthwise convolutions of the attention on the CPU, float32: y = a + sum of column(row(a)) over the strips, where
// a = square(x). All in one pass over LANES channels at a time, whose maps stay in the cache.
#include <vector>

namespace segnext {

constexpr int SQUARE = 5, STRIPS[] = {7, 11, 21}, FILTERS = 7, BORDER = 10;
constexpr int TAPS[FILTERS] = {25, 7, 7, 11, 11, 21, 21};  // of the square, then row and column of each strip

template <class Float>
struct Filters {
    Float *weights[FILTERS], *biases[FILTERS];

    Filters from(int channel) const {
        Filters filters;
        for (int f = 0; f < FILTERS; f++) {
            filters.weights[f] = weights[f] + channel * TAPS[f];
            filters.biases[f] = biases[f] + channel;
        }
        return filters;
    }
};

template <int K>
void strip(const Block& a, Block& between, Block& y, const Filters<const float>& p, int f, int count) {
    Filter<1, K>(p.weights[f], p.biases[f], count).apply(a, between);
    Filter<K, 1>(p.weights[f + 1], p.biases[f + 1], count).apply(between, y, true);
}

template <int K>
void strip_gradient(const Block& a, const Block& dy, Block& between, Block& dbetween, Block& da,
                    const Filters<const float>& p, const Filters<float>& d, int f, int count) {
    const Filter<1, K> row(p.weights[f], p.biases[f], count);
    const Filter<K, 1> column(p.weights[f + 1], p.biases[f + 1], count);
    row.apply(a, between);
    filter_gradient<K, 1>(between, dy, d.weights[f + 1], d.biases[f + 1], count);
    column.turned().apply(dy, dbetween);
    filter_gradient<1, K>(a, dbetween, d.weights[f], d.biases[f], count);
    row.turned().apply(dbetween, da, true);
}

inline void multi_scale_depthwise(const float* x, const Filters<const float>& filters, float* y, const Maps& s) {
#pragma omp parallel
    {
        Block in(s, SQUARE / 2), a(s, BORDER), between(s, BORDER), out(s, 0);
#pragma omp for
        for (int job = 0; job < s.batch * s.groups(); job++) {
            const int first = job % s.groups() * LANES, count = std::min(LANES, s.channels - first);
            const ptrdiff_t offset = ((ptrdiff_t)(job / s.groups()) * s.channels + first) * s.plane();
            const Filters<const float> p = filters.from(first);
            in.load(x + offset, s.plane(), count);
            Filter<SQUARE, SQUARE>(p.weights[0], p.biases[0], count).apply(in, a);
            out.copy(a);
            strip<STRIPS[0]>(a, between, out, p, 1, count);
            strip<STRIPS[1]>(a, between, out, p, 3, count);
            strip<STRIPS[2]>(a, between, out, p, 5, count);
            out.store(y + offset, s.plane(), count);
        }
    }
}

// a and what the strips have between them are worked out again. The filters' gradients are those of each image, added up.
inline void multi_scale_depthwise_gradient(const float* x, const float* dy, const Filters<const float>& filters, float* dx,
                            const Filters<float>& gradients, const Maps& s) {
    std::vector<float> memory[2 * FILTERS];  // of all images: the weights of each filter, then the biases
    for (int f = 0; f < FILTERS; f++) {
        memory[f].resize((size_t)s.batch * s.channels * TAPS[f]);
        memory[FILTERS + f].resize((size_t)s.batch * s.channels);
    }
    const auto of_image = [&](int n) {
        Filters<float> own;
        for (int f = 0; f < FILTERS; f++) {
            own.weights[f] = &memory[f][(size_t)n * s.channels * TAPS[f]];
            own.biases[f] = &memory[FILTERS + f][(size_t)n * s.channels];
        }
        return own;
    };
#pragma omp parallel
    {
        Block in(s, SQUARE / 2), slope(s, BORDER), a(s, BORDER), between(s, BORDER), dbetween(s, BORDER), da(s, 2),
            out(s, 0);
#pragma omp for
        for (int job = 0; job < s.batch * s.groups(); job++) {
            const int first = job % s.groups() * LANES, count = std::min(LANES, s.channels - first);
            const ptrdiff_t offset = ((ptrdiff_t)(job / s.groups()) * s.channels + first) * s.plane();
            const Filters<const float> p = filters.from(first);
            const Filters<float> d = of_image(job / s.groups()).from(first);
            const Filter<SQUARE, SQUARE> square(p.weights[0], p.biases[0], count);
            in.load(x + offset, s.plane(), count);
            slope.load(dy + offset, s.plane(), count);
            square.apply(in, a);
            da.copy(slope);
            strip_gradient<STRIPS[2]>(a, slope, between, dbetween, da, p, d, 5, count);
            strip_gradient<STRIPS[1]>(a, slope, between, dbetween, da, p, d, 3, count);
            strip_gradient<STRIPS[0]>(a, slope, between, dbetween, da, p, d, 1, count);
            filter_gradient<SQUARE, SQUARE>(in, da, d.weights[0], d.biases[0], count);
            square.turned().apply(da, out);
            out.store(dx + offset, s.plane(), count);
        }
    }
    for (int f = 0; f < FILTERS; f++) {
        add_up(memory[f].data(), s.batch, (size_t)s.channels * TAPS[f], gradients.weights[f]);
        add_up(memory[FILTERS + f].data(), s.batch, s.channels, gradients.biases[f]);
    }
}

}  // namespace segnext
