// Mean cross-entropy of bilinearly enlarged logits and its gradient on the CPU, float32, in one pass: the classes of a
// pixel lie side by side, and only the pixels between two columns of logits have their enlarged ones at a time.
#include <cmath>
#include <vector>

namespace segnext {

constexpr int IGNORED = 255;        // as IGNORE in cross_entropy.py
constexpr float NO_CLASS = -1e30f;  // the logit of the lanes after the last class
constexpr int RUN = 16;             // pixels at a time, at most

// Neighbouring pixels of a row that lie between the same two cells.
struct Run {
    const Sample* columns;
    const int* labels;
    int count, classes, lanes;

    // The pixels' losses; adds the gradients of their sum to those of the cells.
    double operator()(const float* left, const float* right, float* dleft, float* dright, float* block) const {
        Lanes highest[RUN];
        for (int c = 0; c < lanes; c += LANES) {
            const Lanes start = *(const Lanes*)(left + c), step = *(const Lanes*)(right + c) - start;
            for (int j = 0; j < count; j++) {
                const Lanes value = start + columns[j].weight * step;
                *(Lanes*)(block + j * lanes + c) = value;
                highest[j] = c == 0 || value > highest[j] ? value : highest[j];
            }
        }
        double total = 0;
        float low[RUN], high[RUN];  // what the cells get of each gradient
        for (int j = 0; j < count; j++) {
            float* scores = block + j * lanes;
            float top = highest[j][0], sum = 0;
            for (int v = 1; v < LANES; v++) top = std::max(top, highest[j][v]);
            const bool known = labels[j] >= 0 && labels[j] < classes;
            const float truth = known ? scores[labels[j]] : 0.f;
#pragma omp simd reduction(+ : sum)
            for (int c = 0; c < lanes; c++) {
                scores[c] = exponential(scores[c] - top);
                sum += scores[c];
            }
            if (known) scores[labels[j]] -= sum;
            if (labels[j] != IGNORED) total += known ? std::log(sum) - (truth - top) : NAN;  // NaN: no class
            const float scale = labels[j] == IGNORED ? 0.f : 1 / sum;
            low[j] = (1 - columns[j].weight) * scale;
            high[j] = columns[j].weight * scale;
        }
        for (int c = 0; c < lanes; c += LANES) {
            Lanes to_left{}, to_right{};
            for (int j = 0; j < count; j++) {
                const Lanes slope = *(const Lanes*)(block + j * lanes + c);
                to_left += low[j] * slope;
                to_right += high[j] * slope;
            }
            *(Lanes*)(dleft + c) += to_left;
            *(Lanes*)(dright + c) += to_right;
        }
        return total;
    }
};

// The mean over all pixels of log(sum exp(logits)) - logit of the label, 0 where ignored, and its gradient.
inline void cross_entropy(const float* logits, const int* labels, float* loss, float* dlogits, int batch, int classes,
                          const Resize& s) {
    const int lanes = (classes + LANES - 1) / LANES * LANES, h = s.rows.from, w = s.columns.from, width = s.columns.to;
    const std::vector<Sample> rows = samples(s.rows), columns = samples(s.columns);
    const size_t line_size = (size_t)w * lanes;
    // A job is all rows of pixels between two rows of logits; what both get of its gradient is added up in the end, in
    // order: the same bits for any number of threads.
    std::vector<float> cells(batch * h * line_size, NO_CLASS), above(cells.size()), below(cells.size());
    std::vector<double> totals(batch * h);
#pragma omp parallel for
    for (int row = 0; row < batch * h; row++)
        for (int c = 0; c < classes; c++)
            for (int x = 0; x < w; x++)
                cells[row * line_size + x * lanes + c] = logits[((size_t)(row / h) * classes + c) * h * w + row % h * w + x];
#pragma omp parallel
    {
        std::vector<float> line(line_size), dline(line_size), block((size_t)RUN * lanes);
#pragma omp for schedule(dynamic)
        for (int job = 0; job < batch * h; job++) {
            const auto is_before = [](const Sample& sample, int low) { return sample.low < low; };
            const int first = std::lower_bound(rows.begin(), rows.end(), job % h, is_before) - rows.begin();
            for (int i = first; i < s.rows.to && rows[i].low == job % h; i++) {
                const float *top = &cells[job * line_size], *bottom = top + (rows[i].high - rows[i].low) * line_size;
                const float weight = rows[i].weight;
                for (size_t k = 0; k < line_size; k++) line[k] = top[k] + weight * (bottom[k] - top[k]);
                std::fill(dline.begin(), dline.end(), 0.f);
                const int* own = labels + ((size_t)(job / h) * s.rows.to + i) * width;
                for (int j = 0, end = 0; j < width; j = end) {
                    const size_t left = (size_t)columns[j].low * lanes, right = (size_t)columns[j].high * lanes;
                    while (end < width && end < j + RUN && columns[end].low == columns[j].low) end++;
                    const Run run{&columns[j], own + j, end - j, classes, lanes};
                    totals[job] += run(&line[left], &line[right], &dline[left], &dline[right], block.data());
                }
                float *dtop = &above[job * line_size], *dbottom = rows[i].high > rows[i].low ? &below[job * line_size] : dtop;
                for (size_t k = 0; k < line_size; k++) dtop[k] += (1 - weight) * dline[k];
                for (size_t k = 0; k < line_size; k++) dbottom[k] += weight * dline[k];
            }
        }
    }
    const double share = 1. / ((double)batch * s.outputs());
    double total = 0;
    for (double part : totals) total += part;
    *loss = total * share;
#pragma omp parallel for
    for (int row = 0; row < batch * h; row++)
        for (int c = 0; c < classes; c++)
            for (int x = 0; x < w; x++) {
                const size_t at = row * line_size + x * lanes + c;
                const float slope = above[at] + (row % h ? below[at - line_size] : 0.f);
                dlogits[((size_t)(row / h) * classes + c) * h * w + row % h * w + x] = slope * (float)share;
            }
}

}  // namespace segnext
