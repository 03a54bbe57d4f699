// A factorisation and its gradient against the definition; plain_product.h and nmf_cuda.h with what it needs come first.
#include "expect.h"

using Matrix = std::vector<double>;  // row by row

Matrix times(const Matrix& a, const Matrix& b, int rows, int inner, int columns) {
    Matrix c(rows * columns);
    for (int i = 0; i < rows; i++)
        for (int k = 0; k < inner; k++)
            for (int j = 0; j < columns; j++) c[i * columns + j] += a[i * inner + k] * b[k * columns + j];
    return c;
}

Matrix turned(const Matrix& a, int rows, int columns) {
    Matrix b(a.size());
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++) b[j * rows + i] = a[i * columns + j];
    return b;
}

// F * (G X) / (G G' F + 1e-6), with F (r,n), G (r,m), X (m,n).
Matrix updated(const Matrix& f, const Matrix& g, const Matrix& x, int r, int n, int m) {
    const Matrix numerator = times(g, x, r, m, n), denominator = times(times(g, turned(g, r, m), r, m, r), f, r, r, n);
    Matrix result(f.size());
    for (size_t i = 0; i < f.size(); i++) result[i] = f[i] * numerator[i] / (denominator[i] + 1e-6);
    return result;
}

// The reconstruction of one image; the last update of the coefficients alone sees `last`.
Matrix definition(const Matrix& x, const Matrix& last, const Matrix& bases, const segnext::Factors& s) {
    const int d = s.dim, n = s.pixels, r = s.rank;
    Matrix u = turned(bases, d, r), c = times(u, x, r, d, n);
    for (int p = 0; p < n; p++) {
        double total = 0;
        for (int k = 0; k < r; k++) total += c[k * n + p] = std::exp(c[k * n + p]);
        for (int k = 0; k < r; k++) c[k * n + p] /= total;
    }
    for (int step = 0; step < s.steps; step++) {
        c = updated(c, u, x, r, n, d);
        u = updated(u, c, turned(x, d, n), r, d, n);
    }
    return times(turned(u, r, d), updated(c, u, last, r, n, d), d, r, n);
}

void check(const segnext::Factors& s, bool full) {
    const int batch = 2, map = s.dim * s.pixels;
    auto x = drawn<float>(batch * map), bases = drawn<float>(batch * s.bases());
    const auto dy = drawn<float>(x.size());
    for (float& value : x) value = std::abs(value) + 0.1f;
    for (float& value : bases) value = std::abs(value) + 0.1f;
    std::vector<float> y(x.size()), again(x.size()), dx(x.size());
    std::vector<float> memory(batch * segnext::Trace(s, nullptr, true).size());
    std::vector<float> scratch(batch * (2 * s.rank * s.rank + (s.steps + 3) * (s.coefficients() + s.bases())));
    const segnext::Factorisation all(x.data(), batch, s, memory.data(), scratch.data(), true);
    all.forward(bases.data(), y.data());
    all.gradient(dy.data(), dx.data(), full);
    std::vector<float> little(batch * segnext::Trace(s, nullptr, false).size());
    segnext::Factorisation(x.data(), batch, s, little.data(), scratch.data(), false).forward(bases.data(), again.data());
    if (again != y) fprintf(stderr, "other values without a trace\n"), failures++;

    Matrix ys(x.size()), dxs(x.size());
    for (int i = 0; i < batch; i++) {
        const Matrix own(x.begin() + i * map, x.begin() + (i + 1) * map);
        const Matrix start(bases.begin() + i * s.bases(), bases.begin() + (i + 1) * s.bases());
        const Matrix values = definition(own, own, start, s);
        std::copy(values.begin(), values.end(), ys.begin() + i * map);
        for (int at = 0; at < map; at++) {
            Matrix ends[2];
            for (int end = 0; end < 2; end++) {
                Matrix moved = own;
                moved[at] += end ? 1e-5 : -1e-5;
                ends[end] = definition(full ? moved : own, moved, start, s);
            }
            for (int j = 0; j < map; j++) dxs[i * map + at] += dy[i * map + j] * (ends[1][j] - ends[0][j]) / 2e-5;
        }
    }
    expect_equal("y", y, ys);
    expect_equal("dx", dx, dxs);
}

int main() {
    for (bool full : {true, false})
        for (int steps : {0, 1, 3}) check({5, 7, 3, steps}, full);
    check({7, 4, 2, 2}, true);
    return failures;
}
