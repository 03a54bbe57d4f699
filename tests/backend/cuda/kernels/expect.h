// Random inputs and a comparison for the drivers of kernels.
#pragma once
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

inline int failures = 0;

template <class T>
std::vector<T> drawn(size_t count) {
    static std::mt19937 generator(1);
    std::normal_distribution<float> normal;
    std::vector<T> values(count);
    for (T& value : values) value = T(normal(generator));
    return values;
}

// Within 1e-4, or one rounding of a narrow type.
template <class T>
void expect_equal(const char* name, const std::vector<T>& found, const std::vector<double>& expected) {
    const double unit = sizeof(T) == 4 ? 1e-4 : 1.0 / 128;
    for (size_t i = 0; i < found.size(); i++)
        if (!(std::abs((float)found[i] - expected[i]) <= unit * (1 + std::abs(expected[i])))) {
            fprintf(stderr, "%s: %g instead of %g at %zu\n", name, (float)found[i], expected[i], i);
            failures++;
            return;
        }
}
