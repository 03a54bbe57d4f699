// A step of AdamW for one parameter, on the CPU and on CUDA, float32.
#include <cmath>

namespace segnext {

struct AdamW {
    const float *parameter, *gradient, *first, *second;
    float *new_parameter, *new_first, *new_second;
    float beta1, beta2, eps, kept, rate, unbias;  // kept: of the parameter after decay; unbias: 1 / sqrt(correction2)

    SEGNEXT_EACH void operator()(size_t i) const {
        const float g = gradient[i];
        const float m = beta1 * first[i] + (1.f - beta1) * g, v = beta2 * second[i] + (1.f - beta2) * g * g;
        new_first[i] = m;
        new_second[i] = v;
        new_parameter[i] = kept * parameter[i] - rate * m / (sqrtf(v) * unbias + eps);
    }
};

}  // namespace segnext
