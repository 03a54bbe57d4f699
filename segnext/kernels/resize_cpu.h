// Bilinear resize on the CPU, float32, plane by plane: along the rows first, then down the columns, so that the large
// map is only ever read or written in order. The gradient goes the same way back, by a fixed order of sums.
#include <algorithm>
#include <cstddef>
#include <vector>

namespace segnext {

inline std::vector<Sample> samples(const Sampling& sampling) {
    std::vector<Sample> all(sampling.to);
    for (int i = 0; i < sampling.to; i++) all[i] = sampling.at(i);
    return all;
}

class Resizer {
  public:
    const std::vector<Sample> rows, columns;

    explicit Resizer(const Resize& s) : rows(samples(s.rows)), columns(samples(s.columns)), s(s) {}

    // The inputs' rows at the width of the outputs.
    std::vector<float> strips() const { return std::vector<float>((size_t)s.rows.from * s.columns.to); }

    void widen(const float* x, float* strips) const {
        for (int h = 0; h < s.rows.from; h++, x += s.columns.from, strips += s.columns.to)
            for (int w = 0; w < s.columns.to; w++) {
                const Sample& sample = columns[w];
                strips[w] = x[sample.low] + sample.weight * (x[sample.high] - x[sample.low]);
            }
    }

    void widen_gradient(const float* dstrips, float* dx) const {
        std::fill_n(dx, s.inputs(), 0.f);
        for (int h = 0; h < s.rows.from; h++, dx += s.columns.from, dstrips += s.columns.to)
            for (int w = 0; w < s.columns.to; w++) {
                const Sample& sample = columns[w];
                dx[sample.low] += (1.f - sample.weight) * dstrips[w];
                dx[sample.high] += sample.weight * dstrips[w];
            }
    }

    // Row `h` of the output, from the strips.
    void blend(const float* strips, int h, float* row) const {
        const float* low = strips + (size_t)rows[h].low * s.columns.to;
        const float* high = strips + (size_t)rows[h].high * s.columns.to;
        for (int w = 0; w < s.columns.to; w++) row[w] = low[w] + rows[h].weight * (high[w] - low[w]);
    }

    void blend_gradient(const float* drow, int h, float* dstrips) const {
        float* low = dstrips + (size_t)rows[h].low * s.columns.to;
        float* high = dstrips + (size_t)rows[h].high * s.columns.to;
        for (int w = 0; w < s.columns.to; w++) low[w] += (1.f - rows[h].weight) * drow[w];
        for (int w = 0; w < s.columns.to; w++) high[w] += rows[h].weight * drow[w];
    }

  private:
    const Resize s;
};

inline void resize(const float* x, float* y, int planes, const Resize& s) {
    const Resizer resizer(s);
#pragma omp parallel
    {
        std::vector<float> strips = resizer.strips();
#pragma omp for
        for (int p = 0; p < planes; p++) {
            resizer.widen(x + (size_t)p * s.inputs(), strips.data());
            for (int h = 0; h < s.rows.to; h++)
                resizer.blend(strips.data(), h, y + (size_t)p * s.outputs() + (size_t)h * s.columns.to);
        }
    }
}

inline void resize_gradient(const float* dy, float* dx, int planes, const Resize& s) {
    const Resizer resizer(s);
#pragma omp parallel
    {
        std::vector<float> dstrips = resizer.strips();
#pragma omp for
        for (int p = 0; p < planes; p++) {
            std::fill(dstrips.begin(), dstrips.end(), 0.f);
            for (int h = 0; h < s.rows.to; h++)
                resizer.blend_gradient(dy + (size_t)p * s.outputs() + (size_t)h * s.columns.to, h, dstrips.data());
            resizer.widen_gradient(dstrips.data(), dx + (size_t)p * s.inputs());
        }
    }
}

}  // namespace segnext
