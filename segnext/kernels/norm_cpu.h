// Normalisation of maps (batch, channels, pixels) on the CPU, float32: sums in runs of 1024 elements, added up in double,
// each by one thread, so that they have the same bits for any number of threads.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace segnext {

enum Over { BATCH, GROUP, CHANNELS };  // what shares a mean: all images of a channel, a group of channels, or one pixel

struct Norm {
    ptrdiff_t batch, channels, pixels, groups;
    int over;
    float epsilon;

    ptrdiff_t rows() const { return over == BATCH ? channels : over == GROUP ? batch * groups : batch * pixels; }
    ptrdiff_t count() const { return batch * channels * pixels / rows(); }  // of elements that share a mean
    ptrdiff_t plane(ptrdiff_t image, ptrdiff_t channel) const { return (image * channels + channel) * pixels; }

    // Calls f(channel, offset of its plane) for the planes of a row, in order.
    template <class F>
    void planes(ptrdiff_t row, const F& f) const {
        if (over == BATCH) {
            for (ptrdiff_t b = 0; b < batch; b++) f(row, plane(b, row));
            return;
        }
        const ptrdiff_t size = channels / groups, first = row % groups * size;
        for (ptrdiff_t c = first; c < first + size; c++) f(c, plane(row / groups, c));
    }
};

// `term` holds copies, not references: else the compiler fetches what it holds anew for every element.
template <class Term>
__attribute__((always_inline)) inline double sum(ptrdiff_t count, const Term term) {
    double total = 0;
    for (ptrdiff_t first = 0; first < count; first += 1024) {
        const ptrdiff_t last = std::min(count, first + 1024);
        float part = 0;
#pragma omp simd reduction(+ : part)
        for (ptrdiff_t i = first; i < last; i++) part += term(i);
        total += part;
    }
    return total;
}

// Calls f(image, first pixel, pixels) for pieces of all images' pixels, each by one thread.
constexpr ptrdiff_t PIECE = 256;
template <class F>
void pieces(const Norm& s, const F& f) {
    const ptrdiff_t each = (s.pixels + PIECE - 1) / PIECE;
#pragma omp parallel for
    for (ptrdiff_t i = 0; i < s.batch * each; i++)
        f(i / each, i % each * PIECE, std::min(PIECE, s.pixels - i % each * PIECE));
}

inline void statistics(const float* x, float* mean, float* variance, const Norm& s) {
    const double share = 1. / s.count();
    if (s.over == CHANNELS) {
        pieces(s, [&](ptrdiff_t b, ptrdiff_t first, ptrdiff_t n) {
            float *m = mean + b * s.pixels + first, *v = variance + b * s.pixels + first;
            std::fill_n(m, n, 0.f);
            std::fill_n(v, n, 0.f);
            for (ptrdiff_t c = 0; c < s.channels; c++) {
                const float* row = x + s.plane(b, c) + first;
                for (ptrdiff_t i = 0; i < n; i++) m[i] += row[i];
            }
            for (ptrdiff_t i = 0; i < n; i++) m[i] *= (float)share;
            for (ptrdiff_t c = 0; c < s.channels; c++) {
                const float* row = x + s.plane(b, c) + first;
                for (ptrdiff_t i = 0; i < n; i++) v[i] += (row[i] - m[i]) * (row[i] - m[i]);
            }
            for (ptrdiff_t i = 0; i < n; i++) v[i] *= (float)share;
        });
        return;
    }
#pragma omp parallel for
    for (ptrdiff_t r = 0; r < s.rows(); r++) {
        double total = 0;
        s.planes(r, [&](ptrdiff_t, ptrdiff_t at) { total += sum(s.pixels, [=](ptrdiff_t i) { return x[at + i]; }); });
        const float m = total * share;
        total = 0;
        s.planes(r, [&](ptrdiff_t, ptrdiff_t at) {
            total += sum(s.pixels, [=](ptrdiff_t i) { return (x[at + i] - m) * (x[at + i] - m); });
        });
        mean[r] = m;
        variance[r] = total * share;
    }
}

// What a batch moves towards itself: running mean and, made unbiased by a factor, variance. Null where there is nothing to.
struct Moving {
    const float *old_mean, *old_variance;
    float *new_mean, *new_variance;
    float momentum, unbias;
};

inline void move_statistics(const float* mean, const float* variance, const Moving& s, ptrdiff_t rows) {
    for (ptrdiff_t r = 0; r < rows; r++) {
        s.new_mean[r] = s.old_mean[r] + (mean[r] - s.old_mean[r]) * s.momentum;
        s.new_variance[r] = s.old_variance[r] + (variance[r] * s.unbias - s.old_variance[r]) * s.momentum;
    }
}

inline std::vector<float> inverse_deviations(const float* variance, const Norm& s) {
    std::vector<float> inverse(s.rows());
    for (ptrdiff_t r = 0; r < s.rows(); r++) inverse[r] = 1 / std::sqrt(variance[r] + s.epsilon);
    return inverse;
}

inline void normalise(const float* x, const float* mean, const float* variance, const float* weight, const float* bias,
                      float* y, const Norm& s) {
    const std::vector<float> inverse = inverse_deviations(variance, s);
    if (s.over == CHANNELS) {
        pieces(s, [&](ptrdiff_t b, ptrdiff_t first, ptrdiff_t n) {
            const float *m = mean + b * s.pixels + first, *k = inverse.data() + b * s.pixels + first;
            for (ptrdiff_t c = 0; c < s.channels; c++) {
                const float *from = x + s.plane(b, c) + first, w = weight[c], shift = bias[c];
                float* to = y + s.plane(b, c) + first;
#pragma omp simd
                for (ptrdiff_t i = 0; i < n; i++) to[i] = (from[i] - m[i]) * k[i] * w + shift;
            }
        });
        return;
    }
#pragma omp parallel for
    for (ptrdiff_t r = 0; r < s.rows(); r++)
        s.planes(r, [&](ptrdiff_t c, ptrdiff_t at) {
            const float m = mean[r], scale = inverse[r] * weight[c], shift = bias[c];
#pragma omp simd
            for (ptrdiff_t i = at; i < at + s.pixels; i++) y[i] = (x[i] - m) * scale + shift;
        });
}

// Both; and the running statistics of batch norm.
inline void normalise_by_own(const float* x, const float* weight, const float* bias, float* y, float* mean, float* variance,
                             const Moving& moving, const Norm& s) {
    statistics(x, mean, variance, s);
    normalise(x, mean, variance, weight, bias, y, s);
    if (moving.new_mean) move_statistics(mean, variance, moving, s.rows());
}

// Gradients of weight and bias; and for every row the means of weight * dy, plain and times the normalised x, which are
// what the statistics pass on to x.
inline void parameter_gradients(const float* x, const float* dy, const float* mean, const float* variance,
                                const float* weight, float* dweight, float* dbias, float* plain, float* scaled,
                                const Norm& s) {
    const std::vector<float> inverse = inverse_deviations(variance, s);
    const double share = 1. / s.count();
    if (s.over == CHANNELS)
        pieces(s, [&](ptrdiff_t b, ptrdiff_t first, ptrdiff_t n) {
            const ptrdiff_t row = b * s.pixels + first;
            const float *m = mean + row, *k = inverse.data() + row;
            float *p = plain + row, *q = scaled + row;
            std::fill_n(p, n, 0.f);
            std::fill_n(q, n, 0.f);
            for (ptrdiff_t c = 0; c < s.channels; c++) {
                const float *from = x + s.plane(b, c) + first, *d = dy + s.plane(b, c) + first, w = weight[c];
#pragma omp simd
                for (ptrdiff_t i = 0; i < n; i++) {
                    p[i] += w * d[i];
                    q[i] += w * d[i] * (from[i] - m[i]) * k[i];
                }
            }
            for (ptrdiff_t i = 0; i < n; i++) p[i] *= (float)share, q[i] *= (float)share;
        });
    // The sums of every plane, then of every row and channel.
    std::vector<double> sums(s.batch * s.channels), products(s.batch * s.channels);
#pragma omp parallel for
    for (ptrdiff_t j = 0; j < s.batch * s.channels; j++) {
        const ptrdiff_t at = j * s.pixels, b = j / s.channels, c = j % s.channels;
        sums[j] = sum(s.pixels, [=](ptrdiff_t i) { return dy[at + i]; });
        if (s.over == CHANNELS) {
            const float *m = mean + b * s.pixels, *k = inverse.data() + b * s.pixels;
            products[j] = sum(s.pixels, [=](ptrdiff_t i) { return dy[at + i] * (x[at + i] - m[i]) * k[i]; });
        } else {
            const ptrdiff_t r = s.over == BATCH ? c : b * s.groups + c / (s.channels / s.groups);
            const float m = mean[r];
            products[j] = sum(s.pixels, [=](ptrdiff_t i) { return dy[at + i] * (x[at + i] - m); }) * inverse[r];
        }
    }
    for (ptrdiff_t c = 0; c < s.channels; c++) {
        double total = 0, product = 0;
        for (ptrdiff_t b = 0; b < s.batch; b++) total += sums[b * s.channels + c], product += products[b * s.channels + c];
        dbias[c] = total;
        dweight[c] = product;
    }
    if (s.over == CHANNELS) return;
    for (ptrdiff_t r = 0; r < s.rows(); r++) {
        double total = 0, product = 0;
        s.planes(r, [&](ptrdiff_t c, ptrdiff_t at) {
            total += weight[c] * sums[at / s.pixels];
            product += weight[c] * products[at / s.pixels];
        });
        plain[r] = total * share;
        scaled[r] = product * share;
    }
}

// The gradient of x, with what has come to it `beside` the norm, where that is not null; `plain` and `scaled` as above, or
// zeros where the statistics are constants.
inline void input_gradient(const float* x, const float* dy, const float* mean, const float* variance,
                           const float* weight, const float* plain, const float* scaled, const float* beside,
                           float* dx, const Norm& s) {
    const std::vector<float> inverse = inverse_deviations(variance, s);
    const auto beside_at = [=](ptrdiff_t i) { return beside ? beside[i] : 0.f; };
    if (s.over == CHANNELS) {
        pieces(s, [&](ptrdiff_t b, ptrdiff_t first, ptrdiff_t n) {
            const ptrdiff_t row = b * s.pixels + first;
            const float *m = mean + row, *k = inverse.data() + row, *p = plain + row, *q = scaled + row;
            for (ptrdiff_t c = 0; c < s.channels; c++) {
                const ptrdiff_t at = s.plane(b, c) + first;
                const float w = weight[c];
#pragma omp simd
                for (ptrdiff_t i = 0; i < n; i++)
                    dx[at + i] = k[i] * (w * dy[at + i] - p[i] - (x[at + i] - m[i]) * k[i] * q[i]) + beside_at(at + i);
            }
        });
        return;
    }
#pragma omp parallel for
    for (ptrdiff_t r = 0; r < s.rows(); r++)
        s.planes(r, [&](ptrdiff_t c, ptrdiff_t at) {
            const float m = mean[r], k = inverse[r], w = k * weight[c], p = k * plain[r], q = k * k * scaled[r];
#pragma omp simd
            for (ptrdiff_t i = at; i < at + s.pixels; i++) dx[i] = w * dy[i] - p - (x[i] - m) * q + beside_at(i);
        });
}

// All gradients; `fixed`: the statistics are constants.
inline void gradients(const float* x, const float* dy, const float* mean, const float* variance, const float* weight,
                      const float* beside, float* dx, float* dweight, float* dbias, bool fixed, const Norm& s) {
    std::vector<float> means(2 * s.rows());
    float *plain = means.data(), *scaled = plain + s.rows();
    parameter_gradients(x, dy, mean, variance, weight, dweight, dbias, plain, scaled, s);
    if (fixed) std::fill(means.begin(), means.end(), 0.f);
    input_gradient(x, dy, mean, variance, weight, plain, scaled, beside, dx, s);
}

}  // namespace segnext
