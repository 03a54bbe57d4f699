// Cross-entropy of bilinearly enlarged logits on the CPU, float32: a row of enlarged logits exists at a time, never all.
#include <cmath>
#include <limits>

namespace segnext {

constexpr int IGNORED = 255;  // as IGNORE in cross_entropy.py
constexpr int BLOCK = 64;  // columns at a time: all classes of them stay in the cache

// loss = log(sum exp(logits)) - logit of the label, 0 where ignored; normaliser = log(sum exp(logits)).
inline void cross_entropy(const float* logits, const int* labels, float* losses, float* normalisers, int batch,
                          int classes, const Resize& s) {
    const Resizer resizer(s);
    const int from = s.columns.from, to = s.columns.to;
#pragma omp parallel
    {
        std::vector<float> rows((size_t)classes * from), block((size_t)classes * BLOCK);
#pragma omp for collapse(2)
        for (int n = 0; n < batch; n++)
            for (int h = 0; h < s.rows.to; h++) {
                const Sample& row = resizer.rows[h];
                for (int k = 0; k < classes; k++) {
                    const float* plane = logits + ((size_t)n * classes + k) * s.inputs();
                    const float *low = plane + row.low * from, *high = plane + row.high * from;
                    for (int w = 0; w < from; w++) rows[k * from + w] = low[w] + row.weight * (high[w] - low[w]);
                }
                for (int left = 0; left < to; left += BLOCK) {
                    const int width = std::min(BLOCK, to - left);
                    const size_t offset = ((size_t)n * s.rows.to + h) * to + left;
                    float highest[BLOCK], total[BLOCK] = {};
                    std::fill_n(highest, BLOCK, std::numeric_limits<float>::lowest());
                    for (int k = 0; k < classes; k++)
                        for (int w = 0; w < width; w++) {
                            const Sample& column = resizer.columns[left + w];
                            const float *x = &rows[k * from], low = x[column.low];
                            const float value = low + column.weight * (x[column.high] - low);
                            block[k * BLOCK + w] = value;
                            highest[w] = std::max(highest[w], value);
                        }
                    for (int k = 0; k < classes; k++)
                        for (int w = 0; w < BLOCK; w++) total[w] += std::exp(block[k * BLOCK + w] - highest[w]);
                    for (int w = 0; w < width; w++) {
                        const int label = labels[offset + w];
                        const float logarithm = std::log(total[w]);
                        float loss = label == IGNORED ? 0.f : NAN;  // NaN: a label that is no class
                        if (label >= 0 && label < classes) loss = logarithm - (block[label * BLOCK + w] - highest[w]);
                        losses[offset + w] = loss;
                        normalisers[offset + w] = highest[w] + logarithm;
                    }
                }
            }
    }
}

// dlogits = the adjoint of the resize, of dloss * (softmax - one of the label); every plane on its own.
inline void cross_entropy_gradient(const float* logits, const int* labels, const float* normalisers,
                                   const float* dlosses, float* dlogits, int batch, int classes, const Resize& s) {
    const Resizer resizer(s);
    const int to = s.columns.to;
#pragma omp parallel
    {
        std::vector<float> strips = resizer.strips(), dstrips = strips, row(to);
#pragma omp for
        for (int p = 0; p < batch * classes; p++) {
            const int k = p % classes;
            resizer.widen(logits + (size_t)p * s.inputs(), strips.data());
            std::fill(dstrips.begin(), dstrips.end(), 0.f);
            for (int h = 0; h < s.rows.to; h++) {
                const size_t offset = ((size_t)(p / classes) * s.rows.to + h) * to;
                const int* label = labels + offset;
                const float *normaliser = normalisers + offset, *dloss = dlosses + offset;
                resizer.blend(strips.data(), h, row.data());
                for (int w = 0; w < to; w++) {
                    const float slope = std::exp(row[w] - normaliser[w]) - (label[w] == k ? 1.f : 0.f);
                    row[w] = label[w] == IGNORED ? 0.f : dloss[w] * slope;
                }
                resizer.blend_gradient(row.data(), h, dstrips.data());
            }
            resizer.widen_gradient(dstrips.data(), dlogits + (size_t)p * s.inputs());
        }
    }
}

}  // namespace segnext
