// exp of float32 in plain arithmetic, so that a loop over it becomes vector instructions: there is no call to make.
#pragma once
#include <cstring>

namespace segnext {

// Within 3e-7 of itself for x in [-87, 88]; outside, the value at the nearer end.
inline float exponential(float x) {
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

}  // namespace segnext
