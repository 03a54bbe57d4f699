// A step of AdamW for one parameter, on the CPU and on CUDA, float32.
#include <cmath>

namespace segnext {

struct AdamW {
    const float *parameter, *gradient, *first, *second;
    float *new_parameter, *new_first, *new_second;
    // scale: of the gradient; kept: of the parameter after decay; unbias: 1 / sqrt(correction2). 1 - beta2 has too few
    // digits in float32 to be worked out here.
    float beta1, rest1, beta2, rest2, eps, scale, kept, rate, unbias;

    SEGNEXT_EACH void operator()(size_t i) const {
        const float g = gradient[i] * scale;
        const float m = beta1 * first[i] + rest1 * g, v = beta2 * second[i] + rest2 * g * g;
        new_first[i] = m;
        new_second[i] = v;
        new_parameter[i] = kept * parameter[i] - rate * m / (sqrtf(v) * unbias + eps);
    }
};

}  // namespace segnext
