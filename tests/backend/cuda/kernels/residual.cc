// Residual sums, and sums by channel and of everything, against the definition; residual_cuda.h comes first.
#include "expect.h"

template <class T>
void check_sums() {
    const int batch = 2, channels = 2, pixels = 400;
    const auto x = drawn<T>(batch * channels * pixels);
    std::vector<T> totals(channels);
    std::vector<float> sums(batch * channels), total(1);
    segnext::sum_channels(x.data(), totals.data(), sums.data(), batch, channels, pixels);
    segnext::sum_all(x.data(), total.data(), sums.data(), 4, x.size(), 0.5f);
    std::vector<double> expected(channels), all(1);
    for (size_t i = 0; i < x.size(); i++) expected[i / pixels % channels] += (float)x[i], all[0] += 0.5 * (float)x[i];
    expect_equal("channels", totals, expected);
    expect_equal("all", total, all);
}

template <class T>
void check_residual(bool with_shortcut, bool with_bias) {
    const segnext::Residual s{2, 2, 1300};
    const size_t planes = s.batch * s.channels, count = planes * s.pixels;
    const auto x = drawn<float>(count), dy = drawn<float>(count);
    const auto branch = drawn<T>(count), shortcut = drawn<T>(count);
    const auto scale = drawn<float>(s.channels), keep = drawn<float>(s.batch), bias = drawn<float>(s.channels);
    std::vector<float> y(count), dscale(s.channels), dbias(s.channels), scale_parts(planes), bias_parts(planes);
    std::vector<T> dbranch(count), dshortcut(count);
    const segnext::Branch<T> inputs{branch.data(), with_shortcut ? shortcut.data() : nullptr,
                                    with_bias ? bias.data() : nullptr, scale.data(), keep.data()};
    segnext::add_scaled(x.data(), inputs, y.data(), s);
    segnext::add_scaled_gradient(dy.data(), inputs, dbranch.data(), with_shortcut ? dshortcut.data() : nullptr,
                                 {scale_parts.data(), with_bias ? bias_parts.data() : nullptr}, s);
    segnext::Sums sums;
    sums.add(scale_parts.data(), dscale.data(), s.channels, s.batch);
    if (with_bias) sums.add(bias_parts.data(), dbias.data(), s.channels, s.batch);
    segnext::launch(sums);

    std::vector<double> ys(count), dbs(count), dss(s.channels), biases(s.channels);
    for (size_t i = 0; i < count; i++) {
        const int plane = i / s.pixels, c = plane % s.channels, b = plane / s.channels;
        const double own = (float)branch[i] + (with_shortcut ? (float)shortcut[i] : 0.) + (with_bias ? bias[c] : 0.);
        ys[i] = x[i] + own * scale[c] * keep[b];
        dbs[i] = (double)dy[i] * scale[c] * keep[b];
        dss[c] += (double)dy[i] * own * keep[b];
        biases[c] += dbs[i];
    }
    expect_equal("y", y, ys);
    expect_equal("dbranch", dbranch, dbs);
    if (with_shortcut) expect_equal("dshortcut", dshortcut, dbs);
    expect_equal("dscale", dscale, dss);
    if (with_bias) expect_equal("dbias", dbias, biases);
}

int main() {
    check_residual<float>(false, false);
    check_residual<float>(true, true);
    check_residual<__half>(true, false);
    check_residual<__nv_bfloat16>(false, true);
    check_sums<float>();
    check_sums<__half>();
    check_sums<__nv_bfloat16>();
    return failures;
}
