// The depthwise convolution and the GELU of the MLP on small maps, against the definition; mixing_cuda.h comes first.
#include "definition.h"

template <int SIDE, class T>
void check(const char* name, const segnext::Maps& maps, int shares) {
    const int c = maps.channels;
    const size_t count = (size_t)maps.planes() * maps.pixels(), figures = (size_t)shares * c;
    const auto h = drawn<T>(count), dy = drawn<T>(count);
    const auto shift = drawn<float>(c), kernels = drawn<float>(9 * c), biases = drawn<float>(c);
    std::vector<T> y(count), again(count), dh(count);
    std::vector<float> kernel_parts(9 * figures), bias_parts(figures), shift_parts(figures), dkernels(9 * c), figure(c);
    const segnext::Mixing<SIDE> mixing{maps, shares};
    mixing.mix(h.data(), shift.data(), kernels.data(), biases.data(), y.data());
    mixing.gradient(h.data(), shift.data(), kernels.data(), biases.data(), dy.data(), again.data(), dh.data(),
                    {kernel_parts.data(), bias_parts.data(), shift_parts.data()});

    const Maps x(maps, [&](size_t i, int channel) { return (float)h[i] + shift[channel]; });
    const Maps before = x.convolved(kernels, 3, 3, &biases);
    const Maps values(maps, [&](size_t i, int) { return gelu(before.values[i]); });
    const Maps slopes(maps, [&](size_t i, int) { return (float)dy[i] * gelu_slope(before.values[i]); });
    const Maps dx = slopes.convolved(kernels, 3, 3, nullptr, true);
    expect_equal(name, y, values.values);
    expect_equal(name, again, values.values);
    expect_equal(name, dh, dx.values);
    add_up(kernel_parts, dkernels, shares);
    expect_equal(name, dkernels, x.correlated(slopes, 3, 3));
    add_up(bias_parts, figure, shares);
    expect_equal(name, figure, slopes.by_channel());
    add_up(shift_parts, figure, shares);
    expect_equal(name, figure, dx.by_channel());
}

int main() {
    check<16, float>("small tiles", {2, 2, 20, 33}, 3);
    check<32, float>("large tiles", {1, 2, 35, 24}, 2);
    check<16, float>("one pixel", {1, 1, 1, 1}, 1);
    check<16, __half>("float16", {1, 2, 17, 16}, 1);
    check<16, __nv_bfloat16>("bfloat16", {2, 1, 16, 5}, 2);
    return failures;
}
