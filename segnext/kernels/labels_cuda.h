// Labels of an image from the stride-8 logits of the network's passes over it, on CUDA, float32: a thread for each pixel
// walks through the classes. Tests run the threads by loops on the CPU. each.h, taps.h and views.h come first.
#include <cmath>

namespace segnext {

constexpr int SIDE = 4;  // classes at a time: they share the search for their places; more would take too many registers

struct Scores {
    float of[SIDE];
};

SEGNEXT_EACH Scores blend(const Scores& low, const Scores& high, float weight) {
    Scores result;
    for (int k = 0; k < SIDE; k++) result.of[k] = low.of[k] * (1.f - weight) + high.of[k] * weight;
    return result;
}

// The logits (classes, h, w) of N windows, those of the first pass first, and what the passes saw.
template <int N>
struct Image {
    const float* windows[N];
    const int* numbers;
    const float* weights;

    SEGNEXT_EACH Plan plan() const { return Plan(numbers, weights); }
};

// Scores of a pixel of the image, of SIDE classes from `first` on; beyond the last one it comes again.
class Pass {
  public:
    SEGNEXT_EACH Pass(const View& view, const float* const* windows, int classes)
        : view(view), windows(windows), classes(classes) {}

    SEGNEXT_EACH Scores scores(int i, int j, int first) const {
        if (!view.again) return of_input(i, j, first);
        const Taps &down = view.image_rows, &along = view.image_columns;
        const int low = down.first[i], high = down.second[i], left = along.first[j], right = along.second[j];
        const Scores at_left = blend(of_input(low, left, first), of_input(high, left, first), down.weight[i]);
        const Scores at_right = blend(of_input(low, right, first), of_input(high, right, first), down.weight[i]);
        return blend(at_left, at_right, along.weight[j]);
    }

  private:
    const View& view;
    const float* const* windows;
    int classes;

    // Of a pixel of the network's input.
    SEGNEXT_EACH Scores of_input(int i, int j, int first) const {
        if (view.whole()) return of_window(windows[0], i, j, first);
        Scores sum{};
        float hits = 0.f;
        for (int n = 0; n < view.windows; n++) {
            const int row = i - view.corners[2 * n], column = j - view.corners[2 * n + 1];
            if (row < 0 || row >= view.window_height || column < 0 || column >= view.window_width) continue;
            const Scores own = of_window(windows[n], row, column, first);
            for (int k = 0; k < SIDE; k++) sum.of[k] += own.of[k];
            hits += 1.f;
        }
        for (int k = 0; k < SIDE; k++) sum.of[k] /= hits;
        return sum;
    }

    SEGNEXT_EACH Scores of_window(const float* logits, int i, int j, int first) const {
        const int low = view.rows.first[i] * view.w, high = view.rows.second[i] * view.w;
        const int left = view.columns.first[j], right = view.columns.second[j];
        const float down = view.rows.weight[i], along = view.columns.weight[j];
        const Scores at_left = blend(of_cell(logits, low + left, first), of_cell(logits, high + left, first), down);
        const Scores at_right = blend(of_cell(logits, low + right, first), of_cell(logits, high + right, first), down);
        return blend(at_left, at_right, along);
    }

    SEGNEXT_EACH Scores of_cell(const float* logits, int cell, int first) const {
        Scores result;
        for (int k = 0; k < SIDE; k++) {
            const int c = first + k < classes ? first + k : classes - 1;
            result.of[k] = logits[(ptrdiff_t)c * view.h * view.w + cell];
        }
        return result;
    }
};

// log(Σ exp(score)) over the classes, of each pass (views, count), for `count` pixels from `start` on.
template <int N>
struct Normalisers {
    Image<N> image;
    float* normalisers;
    size_t start, count;

    SEGNEXT_EACH void operator()(size_t i) const {
        Plan plan = image.plan();
        const float* const* windows = image.windows;
        View view = plan.next();
        for (size_t before = i / count; before > 0; before--) {
            windows += view.windows;
            view = plan.next();
        }
        const Pass pass(view, windows, plan.classes);
        const size_t pixel = start + i % count;
        float highest = -INFINITY, total = 0.f;
        for (int first = 0; first < plan.classes; first += SIDE) {
            const Scores scores = pass.scores(pixel / plan.width, pixel % plan.width, first);
            for (int k = 0; k < SIDE && first + k < plan.classes; k++) {
                const float score = scores.of[k];
                total = score > highest ? total * expf(highest - score) + 1.f : total + expf(score - highest);
                highest = score > highest ? score : highest;
            }
        }
        normalisers[i] = highest + logf(total);
    }
};

// The first of the classes with the highest logit of a single pass, or sum of the probabilities of several.
template <int N>
struct BestClass {
    Image<N> image;
    const float* normalisers;
    int* best;
    size_t start, count;

    SEGNEXT_EACH void operator()(size_t i) const {
        const Plan passes = image.plan();
        const size_t pixel = start + i;
        float highest = -INFINITY;
        int winner = 0;
        for (int first = 0; first < passes.classes; first += SIDE) {
            Plan plan = passes;
            const float* const* windows = image.windows;
            Scores total{};
            for (int n = 0; n < plan.views; n++) {
                const View view = plan.next();
                Scores scores = Pass(view, windows, plan.classes).scores(pixel / plan.width, pixel % plan.width, first);
                windows += view.windows;
                for (int k = 0; k < SIDE; k++)
                    total.of[k] += plan.views == 1 ? scores.of[k] : expf(scores.of[k] - normalisers[n * count + i]);
            }
            for (int k = 0; k < SIDE && first + k < passes.classes; k++)
                if (total.of[k] > highest) {
                    highest = total.of[k];
                    winner = first + k;
                }
        }
        best[pixel] = winner;
    }
};

// The labels of all `pixels`; of several views as many pixels at a time as `normalisers` (views, room) has room for.
template <int N>
void labels(const Image<N>& image, int* best, float* normalisers, int views, size_t pixels, size_t room) {
    const size_t most = views == 1 ? pixels : room;
    for (size_t start = 0; start < pixels; start += most) {
        const size_t count = pixels - start < most ? pixels - start : most;
        if (views > 1) launch(Normalisers<N>{image, normalisers, start, count}, views * count);
        launch(BestClass<N>{image, normalisers, best, start, count}, count);
    }
}

}  // namespace segnext
