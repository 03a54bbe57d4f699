// Labels of an image from the stride-8 logits of the network's passes over it, on the CPU, float32. Only some pixels have
// all their scores at a time: the classes of a pixel lie side by side, so that a blend is a vector operation. views.h comes
// first.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace segnext {

constexpr int SIDE = 8;             // classes at a time: the best of more would cost more than they save
constexpr float NO_CLASS = -1e30f;  // the score of the lanes after the last class
constexpr int PIXELS = 64;          // whose scores exist at a time
constexpr int JOB = 32;             // rows at a time, which share the rows of the network's input that they read

// The logits of one pass as well, of each window (h, w, lanes).
struct Cells : View {
    std::vector<float> logits;
};

class Views {
  public:
    const int count, classes, lanes;

    Views(const float* logits, Plan plan) : count(plan.views), classes(plan.classes), lanes((classes + SIDE - 1) / SIDE * SIDE), views(count) {
        for (Cells& view : views) {
            static_cast<View&>(view) = plan.next();
            const ptrdiff_t cells = (ptrdiff_t)view.h * view.w;
            view.logits.assign(view.windows * cells * lanes, NO_CLASS);
            for (int n = 0; n < view.windows; n++, logits += classes * cells) {
                float* to = view.logits.data() + n * cells * lanes;
#pragma omp parallel for
                for (ptrdiff_t first = 0; first < cells; first += PIXELS)
                    for (int c = 0; c < classes; c++)
                        for (ptrdiff_t i = first; i < std::min(cells, first + PIXELS); i++)
                            to[i * lanes + c] = logits[c * cells + i];
            }
        }
    }

    const Cells& operator[](int i) const { return views[i]; }

  private:
    std::vector<Cells> views;
};

// Of one thread: rows of a view's input, kept for the rows of the image that come next.
class Rows {
  public:
    Rows(const Cells& view, int lanes) : view(view), lanes(lanes), line((size_t)view.w * lanes), kept{-1, -1} {
        if (!view.again) return;
        for (auto& each : rows) each.resize((size_t)view.width * lanes);
    }

    // The scores of `count` pixels of the image, from column `first` of row `i`.
    void scores(int i, int first, int count, float* to) {
        if (!view.again) return input_row(i, first, count, to);
        const Taps &down = view.image_rows, &along = view.image_columns;
        const float *low = row(down.first[i], down.second[i]), *high = row(down.second[i], down.first[i]);
        const float weight = down.weight[i];
        for (int j = first; j < first + count; j++, to += lanes) {
            const ptrdiff_t left = (ptrdiff_t)along.first[j] * lanes, right = (ptrdiff_t)along.second[j] * lanes;
            for (int c = 0; c < lanes; c += SIDE) {
                const auto down_at = [&](ptrdiff_t at) {
                    return *(const Eight*)(low + at + c) * (1 - weight) + *(const Eight*)(high + at + c) * weight;
                };
                *(Eight*)(to + c) = down_at(left) * (1 - along.weight[j]) + down_at(right) * along.weight[j];
            }
        }
    }

  private:
    const Cells& view;
    const int lanes;
    std::vector<float> line, rows[2];
    int kept[2], blended = -1;

    // A row of the input at its full width; `other` is wanted with it.
    const float* row(int i, int other) {
        if (kept[0] != i && kept[1] != i) {
            const int slot = kept[0] == other ? 1 : 0;
            kept[slot] = i;
            input_row(i, 0, view.width, rows[slot].data());
        }
        return rows[kept[0] == i ? 0 : 1].data();
    }

    // `count` pixels of row `i` of the input, from column `first`.
    void input_row(int i, int first, int count, float* to) {
        if (view.whole()) return window_row(0, i, first, count, [&](ptrdiff_t at, Eight score) { *(Eight*)(to + at) = score; });
        std::fill_n(to, (size_t)count * lanes, 0.f);
        std::vector<float> hits(count);
        for (int n = 0; n < view.windows; n++) {
            const int top = view.corners[2 * n], left = view.corners[2 * n + 1];
            if (i < top || i >= top + view.window_height) continue;
            const int from = std::max(first, left), until = std::min(first + count, left + view.window_width);
            if (from >= until) continue;
            float* start = to + (ptrdiff_t)(from - first) * lanes;
            blended = -1;
            window_row(n, i - top, from - left, until - from, [&](ptrdiff_t at, Eight score) { *(Eight*)(start + at) += score; });
            for (int j = from; j < until; j++) hits[j - first] += 1;
        }
        for (int j = 0; j < count; j++)
            for (int c = 0; c < lanes; c++) to[(ptrdiff_t)j * lanes + c] /= hits[j];
    }

    template <class Store>
    void window_row(int n, int i, int first, int count, const Store& store) {
        if (blended != i) {
            const ptrdiff_t size = (ptrdiff_t)view.w * lanes;
            const float* cells = view.logits.data() + n * view.h * size;
            const float *low = cells + view.rows.first[i] * size, *high = cells + view.rows.second[i] * size;
            const float weight = view.rows.weight[i];
            for (ptrdiff_t k = 0; k < size; k++) line[k] = low[k] * (1 - weight) + high[k] * weight;
            blended = i;
        }
        for (int j = 0; j < count; j++) {
            const float* left = line.data() + (ptrdiff_t)view.columns.first[first + j] * lanes;
            const float* right = line.data() + (ptrdiff_t)view.columns.second[first + j] * lanes;
            const float weight = view.columns.weight[first + j];
            for (int c = 0; c < lanes; c += SIDE)
                store((ptrdiff_t)j * lanes + c, *(const Eight*)(left + c) * (1 - weight) + *(const Eight*)(right + c) * weight);
        }
    }
};

// The first of the classes with the highest score.
inline int best_class(const float* scores, int lanes) {
    Eight highest = *(const Eight*)scores;
    EightInts best{}, number{};
    for (int c = SIDE; c < lanes; c += SIDE) {
        number += SIDE;
        const Eight score = *(const Eight*)(scores + c);
        const EightInts higher = score > highest;
        best = higher ? number : best;
        highest = higher ? score : highest;
    }
    int winner = best[0];
    float value = highest[0];
    for (int v = 1; v < SIDE; v++) {
        const int own = best[v] + v;
        const bool better = highest[v] > value || (highest[v] == value && own < winner);
        winner = better ? own : winner;
        value = better ? highest[v] : value;
    }
    return winner;
}

// Adds the softmax of `scores` to `total`.
inline void add_probabilities(float* scores, float* total, int classes) {
    float highest = scores[0], sum = 0;
#pragma omp simd reduction(max : highest)
    for (int c = 0; c < classes; c++) highest = std::max(highest, scores[c]);
#pragma omp simd reduction(+ : sum)
    for (int c = 0; c < classes; c++) {
        scores[c] = exponential(scores[c] - highest);
        sum += scores[c];
    }
#pragma omp simd
    for (int c = 0; c < classes; c++) total[c] += scores[c] / sum;
}

// The labels (height, width): of the logits of a single pass, of the sum of the probabilities of several.
inline void labels(const float* logits, const Plan& plan, int* best) {
    const Views views(logits, plan);
    const int lanes = views.lanes, height = plan.height, width = plan.width;
#pragma omp parallel
    {
        std::vector<Rows> rows;
        for (int n = 0; n < views.count; n++) rows.emplace_back(views[n], lanes);
        std::vector<float> scores((size_t)PIXELS * lanes), total(views.count > 1 ? scores.size() : 0);
#pragma omp for schedule(dynamic)
        for (int job = 0; job < (height + JOB - 1) / JOB; job++)
            for (int i = job * JOB; i < std::min(height, (job + 1) * JOB); i++)
                for (int first = 0; first < width; first += PIXELS) {
                    const int count = std::min(PIXELS, width - first);
                    std::fill(total.begin(), total.end(), 0.f);
                    for (int n = 0; n < views.count; n++) {
                        rows[n].scores(i, first, count, scores.data());
                        if (views.count == 1) break;
                        for (int j = 0; j < count; j++)
                            add_probabilities(&scores[(size_t)j * lanes], &total[(size_t)j * lanes], views.classes);
                    }
                    const float* result = (views.count > 1 ? total : scores).data();
                    for (int j = 0; j < count; j++)
                        best[(ptrdiff_t)i * width + first + j] = best_class(result + (ptrdiff_t)j * lanes, lanes);
                }
    }
}

}  // namespace segnext
