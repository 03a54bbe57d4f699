// The norm of arrays of several sizes; planes_cuda.h and gradient_norm_cuda.h come first.
#include "expect.h"

int main() {
    const size_t counts[] = {1, 300, 40000, 7};
    const float* arrays[4];
    std::vector<std::vector<float>> values;
    for (size_t count : counts) values.push_back(drawn<float>(count));
    for (int n = 0; n < 4; n++) arrays[n] = values[n].data();
    const float before = 3;
    double expected = before * before;
    for (int n = 0; n < 3; n++)  // the last one isn't counted
        for (float value : values[n]) expected += (double)value * value;
    std::vector<float> norm(1), parts(3 * 64);
    segnext::add_to_norm(&before, arrays, counts, 3, norm.data(), parts.data(), 64);
    expect_equal("norm", norm, {std::sqrt(expected)});
    return failures;
}
