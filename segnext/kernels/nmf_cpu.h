// The factorisation of nmf.h on the CPU: all steps of an image in one function, and their gradient in another.
#include <cmath>
#include <vector>

namespace segnext {

// R rows of `length`, and their transpose.
inline Matrix rows(const float* data, int length) { return {data, Axis(length), Axis(1)}; }
inline Matrix columns(const float* data, int length) { return {data, Axis(1), Axis(length)}; }

// Scratch memory without initial values.
inline std::unique_ptr<float[]> floats(size_t count) { return std::unique_ptr<float[]>(new float[count]); }

// x is (m,n): n figures in a row of F, m in one of G.
inline void advance(const Update& u, int rank, int n, int m, const Matrix& x) {
    const auto gram = floats((size_t)rank * rank);
    multiply(rank, m, rank, rows(u.by, m), columns(u.by, m), {gram.get(), rank, Axis(1)});
    multiply(rank, m, n, rows(u.by, m), x, {u.ratio, n, Axis(1)});
    multiply(rank, rank, n, rows(gram.get(), rank), rows(u.before, n), {u.inverse, n, Axis(1)});
    for (size_t i = 0; i < (size_t)rank * n; i++) {
        u.inverse[i] = 1.f / (u.inverse[i] + 1e-6f);
        u.ratio[i] *= u.inverse[i];
        u.after[i] = u.before[i] * u.ratio[i];
    }
}

// Takes df from F afterwards to F before, adds to dg, and leaves the gradient of the numerator, of which that of x is
// G' dnumerator. Without dg, F before and G are constants.
inline void retreat(const Update& u, int rank, int n, int m, const Matrix& x, float* df, float* dg, float* dnumerator) {
    const size_t size = (size_t)rank * n;
    for (size_t i = 0; i < size; i++) dnumerator[i] = df[i] * u.before[i] * u.inverse[i];
    if (!dg) return;
    const auto gram = floats((size_t)rank * rank), dgram = floats((size_t)rank * rank), ddenominator = floats(size),
               through_gram = floats(size), by_x = floats((size_t)rank * m), by_gram = floats((size_t)rank * m);
    for (size_t i = 0; i < size; i++) ddenominator[i] = -df[i] * u.after[i] * u.inverse[i];
    multiply(rank, m, rank, rows(u.by, m), columns(u.by, m), {gram.get(), rank, Axis(1)});
    multiply(rank, rank, n, rows(gram.get(), rank), rows(ddenominator.get(), n), {through_gram.get(), n, Axis(1)});
    for (size_t i = 0; i < size; i++) df[i] = df[i] * u.ratio[i] + through_gram[i];
    multiply(rank, n, rank, rows(ddenominator.get(), n), columns(u.before, n), {dgram.get(), rank, Axis(1)});
    for (int i = 0; i < rank; i++)
        for (int j = 0; j <= i; j++)
            dgram[i * rank + j] = dgram[j * rank + i] = dgram[i * rank + j] + dgram[j * rank + i];
    multiply(rank, rank, m, rows(dgram.get(), rank), rows(u.by, m), {by_gram.get(), m, Axis(1)});
    multiply(rank, n, m, rows(dnumerator, n), {x.data, x.columns, x.rows}, {by_x.get(), m, Axis(1)});
    for (size_t i = 0; i < (size_t)rank * m; i++) dg[i] += by_x[i] + by_gram[i];
}

// Over the R coefficients of each pixel.
inline void softmax(float* c, int rank, int pixels) {
    std::vector<float> highest(c, c + pixels), total(pixels, 0.f);
    for (int r = 1; r < rank; r++)
        for (int p = 0; p < pixels; p++) highest[p] = std::max(highest[p], c[(size_t)r * pixels + p]);
    for (int r = 0; r < rank; r++)
        for (int p = 0; p < pixels; p++)
            total[p] += c[(size_t)r * pixels + p] = std::exp(c[(size_t)r * pixels + p] - highest[p]);
    for (int r = 0; r < rank; r++)
        for (int p = 0; p < pixels; p++) c[(size_t)r * pixels + p] /= total[p];
}

inline void softmax_gradient(const float* c, float* dc, int rank, int pixels) {
    std::vector<float> mean(pixels, 0.f);
    for (int r = 0; r < rank; r++)
        for (int p = 0; p < pixels; p++) mean[p] += c[(size_t)r * pixels + p] * dc[(size_t)r * pixels + p];
    for (int r = 0; r < rank; r++)
        for (int p = 0; p < pixels; p++) dc[(size_t)r * pixels + p] = c[(size_t)r * pixels + p] * (dc[(size_t)r * pixels + p] - mean[p]);
}

inline void factorise_image(const float* x, const float* bases, float* y, const Factors& s, const Trace& trace) {
    const int d = s.dim, n = s.pixels, r = s.rank;
    const Matrix map = rows(x, n), turned = columns(x, n);
    for (int i = 0; i < r; i++)
        for (int j = 0; j < d; j++) trace.bases(0)[i * d + j] = bases[j * r + i];
    multiply(r, d, n, rows(trace.bases(0), d), map, {trace.coefficients(0), n, Axis(1)});
    softmax(trace.coefficients(0), r, n);
    for (int k = 0; k <= s.steps; k++) {
        advance(trace.of_coefficients(k), r, n, d, map);
        if (k < s.steps) advance(trace.of_bases(k), r, d, n, turned);
    }
    multiply(d, r, n, columns(trace.bases(s.steps), d), rows(trace.coefficients(s.steps + 1), n), {y, n, Axis(1)});
}

// dx through all updates, or through the last one alone (`full` false).
inline void factorise_image_gradient(const float* x, const float* dy, float* dx, const Factors& s, const Trace& trace,
                                     bool full) {
    const int d = s.dim, n = s.pixels, r = s.rank;
    const Matrix map = rows(x, n), turned = columns(x, n);
    const auto dcoefficients = floats(s.coefficients()), dbases = floats(s.bases());
    multiply(r, d, n, rows(trace.bases(s.steps), d), rows(dy, n), {dcoefficients.get(), n, Axis(1)});
    // Each use of x adds the product of some (R,D) and some (R,N) to dx: they are gathered and multiplied at once.
    const int uses = full ? 2 * s.steps + 2 : 1;
    const auto left = floats(uses * s.bases()), right = floats(uses * s.coefficients());
    const auto left_of = [&](int use) { return left.get() + use * s.bases(); };
    const auto right_of = [&](int use) { return right.get() + use * s.coefficients(); };
    if (!full) {
        retreat(trace.of_coefficients(s.steps), r, n, d, map, dcoefficients.get(), nullptr, right_of(0));
        std::copy_n(trace.bases(s.steps), s.bases(), left_of(0));
    } else {
        multiply(r, n, d, rows(trace.coefficients(s.steps + 1), n), columns(dy, n), {dbases.get(), d, Axis(1)});
        int use = 0;
        for (int k = s.steps; k >= 0; k--, use++) {
            retreat(trace.of_coefficients(k), r, n, d, map, dcoefficients.get(), dbases.get(), right_of(use));
            std::copy_n(trace.bases(k), s.bases(), left_of(use));
            if (k == 0) continue;
            use++;
            retreat(trace.of_bases(k - 1), r, d, n, turned, dbases.get(), dcoefficients.get(), left_of(use));
            std::copy_n(trace.coefficients(k), s.coefficients(), right_of(use));
        }
        softmax_gradient(trace.coefficients(0), dcoefficients.get(), r, n);
        std::copy_n(dcoefficients.get(), s.coefficients(), right_of(use));
        std::copy_n(trace.bases(0), s.bases(), left_of(use));
    }
    multiply(d, uses * r, n, columns(left.get(), d), rows(right.get(), n), {dx, n, Axis(1)});
}

// Calls `work` for each image, in parallel where there are enough of them; products within share threads otherwise.
template <class Work>
void for_each_image(int batch, const Work& work) {
#pragma omp parallel for if (batch >= omp_get_max_threads())
    for (int i = 0; i < batch; i++) work(i);
}

// `traces` are those of all images; without `keeps`, what the gradient needs is forgotten.
inline void factorise(const float* x, const float* bases, float* y, float* traces, int batch, const Factors& s, bool keeps) {
    const size_t map = (size_t)s.dim * s.pixels, size = Trace(s, traces, keeps).size();
    for_each_image(batch, [&](int i) {
        factorise_image(x + i * map, bases + i * s.bases(), y + i * map, s, Trace(s, traces + i * size, keeps));
    });
}

inline void factorise_gradient(const float* x, const float* dy, float* traces, float* dx, int batch, const Factors& s,
                               bool full) {
    const size_t map = (size_t)s.dim * s.pixels, size = Trace(s, traces, true).size();
    for_each_image(batch, [&](int i) {
        factorise_image_gradient(x + i * map, dy + i * map, dx + i * map, s, Trace(s, traces + i * size, true), full);
    });
}

}  // namespace segnext
