// The depthwise kernels on small maps, against the definition; depthwise_cuda.h comes first.
#include "expect.h"

using segnext::Shape;

template <int KH, int KW, int SIDE, class T>
void check(const char* name, const Shape& s) {
    const int taps = s.kh * s.kw, shares = 3;
    const size_t pixels = (size_t)s.batch * s.channels * s.height * s.width;
    const auto x = drawn<T>(pixels), dy = drawn<T>(pixels);
    const auto kernels = drawn<float>(s.channels * taps), bias = drawn<float>(s.channels);
    std::vector<T> y(pixels), dx(pixels);
    std::vector<float> dkernels(s.channels * taps), dbias(s.channels), partial(s.channels * shares * (taps + 1));
    segnext::convolve<KH, KW, SIDE>(x.data(), kernels.data(), bias.data(), y.data(), s, false);
    segnext::convolve<KH, KW, SIDE>(dy.data(), kernels.data(), bias.data(), dx.data(), s, true);
    segnext::correlate<KH, KW, SIDE>(x.data(), dy.data(), dkernels.data(), dbias.data(), partial.data(), s, shares);

    std::vector<double> ys(pixels), dxs(pixels), dks(kernels.size()), dbs(bias.size());
    for (int n = 0; n < s.batch * s.channels; n++)
        for (int h = 0; h < s.height; h++)
            for (int w = 0; w < s.width; w++) {
                const int c = n % s.channels;
                const size_t plane = (size_t)n * s.height * s.width, here = plane + h * s.width + w;
                ys[here] += bias[c];
                dbs[c] += (float)dy[here];
                for (int t = 0; t < taps; t++) {
                    const int row = h + t / s.kw - s.kh / 2, column = w + t % s.kw - s.kw / 2;
                    if (row < 0 || row >= s.height || column < 0 || column >= s.width) continue;
                    const size_t there = plane + row * s.width + column;
                    ys[here] += (double)kernels[c * taps + t] * (float)x[there];
                    dxs[there] += (double)kernels[c * taps + t] * (float)dy[here];
                    dks[c * taps + t] += (double)(float)dy[here] * (float)x[there];
                }
            }
    expect_equal(name, y, ys);
    expect_equal(name, dx, dxs);
    expect_equal(name, dkernels, dks);
    expect_equal(name, dbias, dbs);
}

int main() {
    check<5, 5, 16, float>("5x5", {2, 2, 20, 33, 5, 5});
    check<1, 21, 32, float>("1x21", {1, 2, 20, 33, 1, 21});
    check<21, 1, 16, __half>("21x1, float16", {1, 2, 20, 17, 21, 1});
    check<3, 3, 16, __nv_bfloat16>("3x3, bfloat16", {1, 1, 17, 16, 3, 3});
    check<0, 0, 16, float>("3x9, the general case", {1, 2, 18, 20, 3, 9});
    return failures;
}
