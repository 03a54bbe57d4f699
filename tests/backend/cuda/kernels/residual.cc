// Residual sums, and sums by channel and of everything, against the definition; residual_cuda.h comes first.
#include "expect.h"

template <class T>
void check_sums() {
    const int batch = 2, channels = 2, pixels = 400;
    const auto x = drawn<T>(batch * channels * pixels);
    std::vector<T> totals(channels);
    std::vector<float> sums(batch * channels), total(1);
    segnext::sum_channels(segnext::Values<T>{x.data()}, totals.data(), sums.data(), batch, channels, pixels);
    segnext::sum_all(segnext::Values<T>{x.data()}, total.data(), sums.data(), 4, x.size(), 0.5f);
    std::vector<double> expected(channels), all(1);
    for (size_t i = 0; i < x.size(); i++) expected[i / pixels % channels] += (float)x[i], all[0] += 0.5 * (float)x[i];
    expect_equal("channels", totals, expected);
    expect_equal("all", total, all);
}

int main() {
    const segnext::Residual s{2, 2, 1300};
    const size_t planes = s.batch * s.channels, count = planes * s.pixels;
    const auto x = drawn<float>(count), branch = drawn<float>(count), dy = drawn<float>(count);
    const auto scale = drawn<float>(s.channels), keep = drawn<float>(s.batch);
    std::vector<float> y(count), dbranch(count), dscale(s.channels), sums(planes);
    segnext::add_scaled(x.data(), branch.data(), scale.data(), keep.data(), y.data(), s);
    segnext::add_scaled_gradient(dy.data(), branch.data(), scale.data(), keep.data(), dbranch.data(), dscale.data(),
                                 sums.data(), s);
    std::vector<double> ys(count), dbs(count), dss(s.channels);
    for (size_t i = 0; i < count; i++) {
        const int plane = i / s.pixels, c = plane % s.channels, b = plane / s.channels;
        ys[i] = x[i] + (double)branch[i] * scale[c] * keep[b];
        dbs[i] = (double)dy[i] * scale[c] * keep[b];
        dss[c] += (double)dy[i] * branch[i] * keep[b];
    }
    expect_equal("y", y, ys);
    expect_equal("dbranch", dbranch, dbs);
    expect_equal("dscale", dscale, dss);
    check_sums<float>();
    check_sums<__half>();
    check_sums<__nv_bfloat16>();
    return failures;
}
