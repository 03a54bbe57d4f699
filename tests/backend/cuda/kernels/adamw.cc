// A step of AdamW; each.h, several.h and adamw.h come first.
#include "expect.h"

int main() {
    const size_t count = 1000;
    const auto parameter = drawn<float>(count), gradient = drawn<float>(count), first = drawn<float>(count);
    auto second = drawn<float>(count);
    for (float& value : second) value *= value;
    std::vector<float> new_parameter(count), new_first(count), new_second(count);
    const float beta1 = 0.9f, rest1 = 0.1f, beta2 = 0.999f, rest2 = 0.001f, eps = 1e-8f, scale = 0.5f;
    const float kept = 0.99f, rate = 0.1f, unbias = 2;
    const auto step = [&](size_t from) {
        return segnext::AdamW{parameter.data() + from, gradient.data() + from, first.data() + from, second.data() + from,
                              new_parameter.data() + from, new_first.data() + from, new_second.data() + from, beta1, rest1,
                              beta2, rest2, eps, scale, kept, rate, unbias};
    };
    const segnext::AdamW steps[] = {step(0), step(900)};
    const size_t counts[] = {900, 100};
    segnext::launch(steps, counts);
    std::vector<double> parameters(count), firsts(count), seconds(count);
    for (size_t i = 0; i < count; i++) {
        const double g = scale * gradient[i];
        firsts[i] = beta1 * first[i] + rest1 * g;
        seconds[i] = beta2 * second[i] + rest2 * g * g;
        parameters[i] = kept * parameter[i] - rate * firsts[i] / (std::sqrt(seconds[i]) * unbias + eps);
    }
    expect_equal("first moment", new_first, firsts);
    expect_equal("second moment", new_second, seconds);
    expect_equal("parameter", new_parameter, parameters);
    return failures;
}
