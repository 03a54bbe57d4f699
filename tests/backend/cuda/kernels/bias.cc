// A bias added to maps, and the sums of planes that its gradient is made of; planes_cuda.h and bias_cuda.h come first.
#include "expect.h"

template <class T>
void check(const char* name) {
    const int batch = 2, channels = 3, pixels = 1100;
    const auto x = drawn<T>(batch * channels * pixels), bias = drawn<T>(channels);
    std::vector<T> y = x;
    std::vector<float> sums(batch * channels);
    segnext::add_bias(y.data(), bias.data(), batch, channels, pixels);
    segnext::sum_planes(x.data(), sums.data(), batch * channels, pixels);
    std::vector<double> ys(x.size()), totals(sums.size());
    for (size_t i = 0; i < x.size(); i++) {
        ys[i] = (float)x[i] + (float)bias[i / pixels % channels];
        totals[i / pixels] += (float)x[i];
    }
    expect_equal(name, y, ys);
    expect_equal(name, sums, totals);
}

int main() {
    check<float>("float");
    check<__half>("half");
    check<__nv_bfloat16>("bfloat16");
    return failures;
}
