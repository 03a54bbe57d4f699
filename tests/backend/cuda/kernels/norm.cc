// The norms on small maps, against the definition; norm_cuda.h comes first.
#include "expect.h"

using segnext::Norm;

// X: the type of x and its gradient; Y: of the result and its gradient.
template <class X, class Y>
void check(const char* name, const Norm& s) {
    const size_t count = (size_t)s.planes() * s.pixels;
    const auto x = drawn<X>(count);
    const auto dy = drawn<Y>(count);
    const auto beside = drawn<X>(count);
    const auto weight = drawn<float>(s.channels), bias = drawn<float>(s.channels);
    std::vector<Y> y(count), other(count);
    std::vector<X> dx(count), other_dx(count);
    std::vector<float> mean(s.rows()), variance(s.rows()), plain(s.rows()), scaled(s.rows());
    std::vector<float> dweight(s.channels), dbias(s.channels), memory(2 * s.planes() + 2 * s.rows());
    std::vector<float> old_mean(s.rows(), 1.f), old_variance(s.rows(), 2.f), new_mean(s.rows()), new_variance(s.rows());
    const bool moves = s.over == segnext::BATCH;
    const segnext::Moving moving{old_mean.data(), old_variance.data(), moves ? new_mean.data() : nullptr,
                                 new_variance.data(), 0.1f, 1.5f};
    segnext::normalise_by_own(x.data(), weight.data(), bias.data(), y.data(), mean.data(), variance.data(), moving,
                              memory.data(), s);
    segnext::gradients(x.data(), dy.data(), mean.data(), variance.data(), weight.data(), beside.data(), dx.data(),
                       dweight.data(), dbias.data(), false, memory.data(), s);

    std::vector<double> m(s.rows()), v(s.rows()), p(s.rows()), q(s.rows()), ys(count), dxs(count), dws(s.channels),
        dbs(s.channels), fixed(count), alone(count);
    const auto each = [&](auto f) {
        for (int plane = 0; plane < s.planes(); plane++)
            for (int i = 0; i < s.pixels; i++) f(s.row(plane, i), plane % s.channels, (size_t)plane * s.pixels + i);
    };
    const double share = (double)s.rows() / count;
    each([&](int r, int, size_t at) { m[r] += (float)x[at] * share; });
    each([&](int r, int, size_t at) { v[r] += ((float)x[at] - m[r]) * ((float)x[at] - m[r]) * share; });
    const auto normal = [&](int r, size_t at) { return ((float)x[at] - m[r]) / std::sqrt(v[r] + s.epsilon); };
    each([&](int r, int c, size_t at) {
        ys[at] = normal(r, at) * weight[c] + bias[c];
        dbs[c] += (float)dy[at];
        dws[c] += (float)dy[at] * normal(r, at);
        p[r] += weight[c] * (float)dy[at] * share;
        q[r] += weight[c] * (float)dy[at] * normal(r, at) * share;
    });
    each([&](int r, int c, size_t at) {
        fixed[at] = weight[c] * (float)dy[at] / std::sqrt(v[r] + s.epsilon);
        alone[at] = fixed[at] - (p[r] + normal(r, at) * q[r]) / std::sqrt(v[r] + s.epsilon);
        dxs[at] = alone[at] + (float)beside[at];
    });
    expect_equal(name, mean, m);
    expect_equal(name, variance, v);
    expect_equal(name, y, ys);
    expect_equal(name, dweight, dws);
    expect_equal(name, dbias, dbs);
    expect_equal(name, dx, dxs);

    // In two steps each, as over several ranks; and with constants.
    segnext::statistics(x.data(), mean.data(), variance.data(), memory.data(), s);
    segnext::normalise(x.data(), mean.data(), variance.data(), weight.data(), bias.data(), other.data(), s);
    segnext::parameter_gradients(x.data(), dy.data(), mean.data(), variance.data(), weight.data(), dweight.data(),
                                 dbias.data(), plain.data(), scaled.data(), memory.data(), s);
    segnext::input_gradient(x.data(), dy.data(), mean.data(), variance.data(), weight.data(), plain.data(),
                            scaled.data(), (const X*)nullptr, other_dx.data(), s);
    expect_equal(name, mean, m);
    expect_equal(name, variance, v);
    expect_equal(name, other, ys);
    expect_equal(name, dweight, dws);
    expect_equal(name, dbias, dbs);
    expect_equal(name, other_dx, alone);
    if (!moves) return;
    segnext::gradients(x.data(), dy.data(), mean.data(), variance.data(), weight.data(), (const X*)nullptr, dx.data(),
                       dweight.data(), dbias.data(), true, memory.data(), s);
    expect_equal(name, dx, fixed);
    std::vector<double> moved_mean(s.rows()), moved_variance(s.rows());
    for (int r = 0; r < s.rows(); r++) {
        moved_mean[r] = 1 + 0.1 * (m[r] - 1);
        moved_variance[r] = 2 + 0.1 * (1.5 * v[r] - 2);
    }
    expect_equal(name, new_mean, moved_mean);
    expect_equal(name, new_variance, moved_variance);
    segnext::move_statistics(mean.data(), variance.data(), moving, s.rows());
    expect_equal(name, new_mean, moved_mean);
    expect_equal(name, new_variance, moved_variance);
}

int main() {
    check<float, float>("batch", {2, 2, 300, 1, segnext::BATCH, 1e-5f});
    check<float, __nv_bfloat16>("batch, to bfloat16", {3, 1, 40, 1, segnext::BATCH, 1e-5f});
    check<__half, __half>("batch, float16", {2, 1, 70, 1, segnext::BATCH, 1e-5f});
    check<float, float>("group", {1, 4, 10, 2, segnext::GROUP, 1e-5f});
    check<float, float>("channels", {1, 3, 70, 1, segnext::CHANNELS, 1e-5f});
    return failures;
}
