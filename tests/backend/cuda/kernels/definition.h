// Depthwise convolutions and GELU from their definitions, in double, for the drivers of kernels.
#pragma once
#include "expect.h"

inline double gelu(double x) { return x * 0.5 * (std::erf(x / std::sqrt(2.0)) + 1); }
inline double gelu_slope(double x) {
    return 0.5 * (std::erf(x / std::sqrt(2.0)) + 1) + x * std::exp(-0.5 * x * x) / std::sqrt(2 * M_PI);
}

// The totals of parts[part][figure], on the device.
inline void add_up(const std::vector<float>& parts, std::vector<float>& totals, int count) {
    segnext::Sums sums;
    sums.add(parts.data(), totals.data(), totals.size(), count);
    segnext::launch(sums);
}

struct Maps {
    segnext::Maps shape;
    std::vector<double> values;

    // f(index, channel)
    template <class F>
    Maps(const segnext::Maps& shape, const F& f) : shape(shape), values((size_t)shape.planes() * shape.pixels()) {
        for (size_t i = 0; i < values.size(); i++) values[i] = f(i, channel(i));
    }
    int channel(size_t i) const { return i / shape.pixels() % shape.channels; }

    // Calls f(pixel, tap of its channel, the pixel that this reaches) wherever that is inside.
    template <class F>
    void each(int kh, int kw, const F& f) const {
        for (size_t i = 0; i < values.size(); i++) {
            const int h = i / shape.width % shape.height, w = i % shape.width;
            for (int t = 0; t < kh * kw; t++) {
                const int down = t / kw - kh / 2, right = t % kw - kw / 2;
                if (h + down >= 0 && h + down < shape.height && w + right >= 0 && w + right < shape.width)
                    f(i, t, i + (ptrdiff_t)down * shape.width + right);
            }
        }
    }
    // `turned`: the gradient with respect to what was convolved, of which this is the result's.
    Maps convolved(const std::vector<float>& kernels, int kh, int kw, const std::vector<float>* biases,
                   bool turned = false) const {
        Maps result(shape, [&](size_t, int channel) { return biases ? (*biases)[channel] : 0.; });
        each(kh, kw, [&](size_t here, int t, size_t there) {
            const double tap = kernels[channel(here) * kh * kw + t];
            result.values[turned ? there : here] += tap * values[turned ? here : there];
        });
        return result;
    }
    // The gradient of the kernels by which this became what has the gradient `slopes`.
    std::vector<double> correlated(const Maps& slopes, int kh, int kw) const {
        std::vector<double> taps(shape.channels * kh * kw);
        each(kh, kw, [&](size_t here, int t, size_t there) {
            taps[channel(here) * kh * kw + t] += slopes.values[here] * values[there];
        });
        return taps;
    }
    std::vector<double> by_channel() const {
        std::vector<double> sums(shape.channels);
        for (size_t i = 0; i < values.size(); i++) sums[channel(i)] += values[i];
        return sums;
    }
};
