// Labels of small images from one pass and from two; each.h, taps.h, views.h and labels_cuda.h come first.
#include <algorithm>

#include "expect.h"

// Where output `o` of a resize reads.
double place(int from, int to, int o) { return std::min(std::max((o + 0.5) * from / to - 0.5, 0.0), from - 1.0); }

// What labels.py writes down, for passes with the same taps everywhere.
struct Written {
    std::vector<int> numbers;
    std::vector<float> weights;

    void taps(int from, int to, bool mirrored = false) {
        std::vector<int> first(to), second(to);
        std::vector<float> weight(to);
        for (int i = 0; i < to; i++) {
            const int o = mirrored ? to - 1 - i : i;
            const double position = place(from, to, o);
            first[i] = (int)position;
            second[i] = std::min(first[i] + 1, from - 1);
            weight[i] = position - first[i];
        }
        numbers.insert(numbers.end(), first.begin(), first.end());
        numbers.insert(numbers.end(), second.begin(), second.end());
        weights.insert(weights.end(), weight.begin(), weight.end());
    }
};

constexpr int CLASSES = 11, HEIGHT = 9, WIDTH = 13;

// Scores (HEIGHT, WIDTH, CLASSES) of a pass, worked out map by map in doubles.
using Map = std::vector<double>;

Map resized(const Map& x, int h, int w, int height, int width, bool mirrored = false) {
    Map y(height * width);
    for (int i = 0; i < height; i++)
        for (int j = 0; j < width; j++) {
            const double row = place(h, height, i), column = place(w, width, mirrored ? width - 1 - j : j);
            const int r = (int)row, c = (int)column, r1 = std::min(r + 1, h - 1), c1 = std::min(c + 1, w - 1);
            const auto along = [&](int line) { return x[line * w + c] * (1 - column + c) + x[line * w + c1] * (column - c); };
            y[i * width + j] = along(r) * (1 - row + r) + along(r1) * (row - r);
        }
    return y;
}

// A pass of two windows of 8x16 over 12x16, mirrored and resized, or one of the image's own size.
struct Case {
    std::vector<std::vector<float>> windows;
    std::vector<Map> scores;  // of each class
    bool slides;

    Case(bool slides, Written& to) : scores(CLASSES), slides(slides) {
        const int height = slides ? 12 : HEIGHT, width = slides ? 16 : WIDTH, side = slides ? 8 : HEIGHT;
        const int count = slides ? 2 : 1, h = 2, w = 3;
        for (int n = 0; n < count; n++) windows.push_back(drawn<float>(CLASSES * h * w));
        for (int number : {count, h, w, side, width, height, width, (int)slides}) to.numbers.push_back(number);
        for (int n = 0; n < count; n++)
            for (int corner : {4 * n, 0}) to.numbers.push_back(corner);
        to.taps(h, side);
        to.taps(w, width);
        if (slides) {
            to.taps(height, HEIGHT);
            to.taps(width, WIDTH, true);
        }
        for (int c = 0; c < CLASSES; c++) {
            Map sum(height * width), hits(sum.size());
            for (int n = 0; n < count; n++) {
                const auto first = windows[n].begin() + c * h * w;
                const Map window = resized(Map(first, first + h * w), h, w, side, width);
                for (int i = 0; i < side * width; i++) {
                    sum[4 * n * width + i] += window[i];
                    hits[4 * n * width + i] += 1;
                }
            }
            for (size_t i = 0; i < sum.size(); i++) sum[i] /= hits[i];
            scores[c] = slides ? resized(sum, height, width, HEIGHT, WIDTH, true) : sum;
        }
    }
};

void check(std::initializer_list<bool> passes, int room) {
    Written written;
    written.numbers = {(int)passes.size(), CLASSES, HEIGHT, WIDTH};
    std::vector<Case> cases;
    for (bool slides : passes) cases.emplace_back(slides, written);
    segnext::Image<4> image{{}, written.numbers.data(), written.weights.data()};
    int number = 0;
    for (const Case& each : cases)
        for (const auto& window : each.windows) image.windows[number++] = window.data();
    std::vector<int> best(HEIGHT * WIDTH, -1);
    std::vector<float> normalisers(passes.size() * room);
    segnext::labels(image, best.data(), normalisers.data(), passes.size(), best.size(), room);
    for (int i = 0; i < HEIGHT * WIDTH; i++) {
        std::vector<double> totals(CLASSES);
        for (const Case& each : cases) {
            double sum = 0;
            for (const Map& scores : each.scores) sum += std::exp(scores[i]);
            for (int c = 0; c < CLASSES; c++) {
                const double score = each.scores[c][i];
                totals[c] += cases.size() == 1 ? score : std::exp(score) / sum;
            }
        }
        const double highest = *std::max_element(totals.begin(), totals.end());
        if (best[i] < 0 || totals[best[i]] < highest - 1e-5) {
            fprintf(stderr, "class %d at %d with %d passes\n", best[i], i, (int)cases.size());
            failures++;
            return;
        }
    }
}

int main() {
    check({false}, 1);
    check({true}, 1);
    check({true, false}, 50);  // the image in three parts
    return failures;
}
