// The norms on small maps, against the definition; norm_cuda.h comes first.
#include "expect.h"

using segnext::Norm;

void check(const char* name, const Norm& s) {
    const size_t count = (size_t)s.planes() * s.pixels;
    const auto x = drawn<float>(count), dy = drawn<float>(count);
    const auto weight = drawn<float>(s.channels), bias = drawn<float>(s.channels);
    std::vector<float> y(count), dx(count), mean(s.rows()), variance(s.rows()), plain(s.rows()), scaled(s.rows());
    std::vector<float> dweight(s.channels), dbias(s.channels), sums(2 * s.planes());
    segnext::statistics(x.data(), mean.data(), variance.data(), sums.data(), s);
    segnext::normalise(x.data(), mean.data(), variance.data(), weight.data(), bias.data(), y.data(), s);
    segnext::parameter_gradients(x.data(), dy.data(), mean.data(), variance.data(), weight.data(), dweight.data(),
                                 dbias.data(), plain.data(), scaled.data(), sums.data(), s);
    segnext::input_gradient(x.data(), dy.data(), mean.data(), variance.data(), weight.data(), plain.data(),
                            scaled.data(), dx.data(), s);

    std::vector<double> m(s.rows()), v(s.rows()), p(s.rows()), q(s.rows()), ys(count), dxs(count), dws(s.channels),
        dbs(s.channels);
    const auto each = [&](auto f) {
        for (int plane = 0; plane < s.planes(); plane++)
            for (int i = 0; i < s.pixels; i++) f(s.row(plane, i), plane % s.channels, (size_t)plane * s.pixels + i);
    };
    const double share = (double)s.rows() / count;
    each([&](int r, int, size_t at) { m[r] += x[at] * share; });
    each([&](int r, int, size_t at) { v[r] += (x[at] - m[r]) * (x[at] - m[r]) * share; });
    const auto normal = [&](int r, size_t at) { return (x[at] - m[r]) / std::sqrt(v[r] + s.epsilon); };
    each([&](int r, int c, size_t at) {
        ys[at] = normal(r, at) * weight[c] + bias[c];
        dbs[c] += dy[at];
        dws[c] += dy[at] * normal(r, at);
        p[r] += weight[c] * dy[at] * share;
        q[r] += weight[c] * dy[at] * normal(r, at) * share;
    });
    each([&](int r, int c, size_t at) {
        dxs[at] = (weight[c] * dy[at] - p[r] - normal(r, at) * q[r]) / std::sqrt(v[r] + s.epsilon);
    });
    expect_equal(name, mean, m);
    expect_equal(name, variance, v);
    expect_equal(name, y, ys);
    expect_equal(name, dweight, dws);
    expect_equal(name, dbias, dbs);
    expect_equal(name, dx, dxs);
}

int main() {
    check("batch", {2, 2, 300, 1, segnext::BATCH, 1e-5f});
    check("group", {1, 4, 70, 2, segnext::GROUP, 1e-5f});
    check("channels", {1, 5, 140, 1, segnext::CHANNELS, 1e-5f});
    return failures;
}
