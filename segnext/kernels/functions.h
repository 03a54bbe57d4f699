// exp, erf and GELU of float32 in plain arithmetic: without a call to make, a loop over them becomes vector instructions.
#pragma once
#include <cstring>

namespace segnext {

// Within 3e-7 of itself for x in [-87, 88]; outside, the value at the nearer end.
SEGNEXT_EACH float exponential(float x) {
    x = x < -87.f ? -87.f : x > 88.f ? 88.f : x;
    const int power = (int)(x * 1.44269504f + (x < 0.f ? -0.5f : 0.5f));
    const float rest = x - power * 0.69314718f;  // the polynomial is that of Cephes
    float sum = 1.9875691500e-4f;
    sum = sum * rest + 1.3981999507e-3f;
    sum = sum * rest + 8.3334519073e-3f;
    sum = sum * rest + 4.1665795894e-2f;
    sum = sum * rest + 1.6666665459e-1f;
    sum = sum * rest + 5.0000001201e-1f;
    sum = sum * rest * rest + rest + 1.f;
    const int bits = (power + 127) << 23;
    float scale;
    std::memcpy(&scale, &bits, sizeof scale);
    return sum * scale;
}

// Within 2e-7: erf(x) / x by a polynomial of x * x below 1, log(1 - erf(x)) by one of x above.
SEGNEXT_EACH float error_function(float x) {
    const float absolute = x < 0.f ? -x : x, t = absolute < 4.f ? absolute : 4.f, s = t * t;
    float near = 7.88249711e-5f, far = 1.8655171e-4f;
    near = near * s - 8.01885499e-4f, far = far * t - 2.94894595e-3f;
    near = near * s + 5.18931194e-3f, far = far * t + 2.18417071e-2f;
    near = near * s - 2.68543288e-2f, far = far * t - 1.03111457e-1f;
    near = near * s + 1.12835975e-1f, far = far * t - 6.38142486e-1f;
    near = near * s - 3.76126269e-1f, far = far * t - 1.12708892f;
    near = near * s + 1.12837917f, far = far * t - 3.41962343e-4f;
    const float below = t < 1.f ? 1.f : 0.f, sign = x < 0.f ? -1.f : 1.f;  // factors, since a branch would end the vector
    return sign * (below * near * t + (1.f - below) * (1.f - exponential(far)));
}

// x times the normal distribution function.
SEGNEXT_EACH float gelu(float x) { return x * (0.5f * (error_function(x * 0.70710678f) + 1.f)); }

SEGNEXT_EACH float gelu_slope(float x) {
    const float density = exponential(-0.5f * x * x) * 0.39894228f;
    return 0.5f * (error_function(x * 0.70710678f) + 1.f) + x * density;
}

}  // namespace segnext
