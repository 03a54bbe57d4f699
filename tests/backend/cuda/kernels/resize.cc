// Resize, loss and their gradients on small maps; each.h, bilinear.h and resize_cuda.h come first.
#include "expect.h"

using segnext::Resize;

// The resize along both dimensions as the definition says, of a plane of doubles.
template <class Visit>
void each_weight(const Resize& s, Visit visit) {  // (place in the output, place in the input, weight)
    auto samples = [](int from, int to, int o) {
        double position = (o + 0.5) * from / to - 0.5;
        position = std::min(std::max(position, 0.0), from - 1.0);
        const int low = (int)position;
        return std::make_pair(low, position - low);
    };
    for (int h = 0; h < s.rows.to; h++)
        for (int w = 0; w < s.columns.to; w++) {
            const auto [row, down] = samples(s.rows.from, s.rows.to, h);
            const auto [column, right] = samples(s.columns.from, s.columns.to, w);
            for (int i = 0; i < 4; i++) {
                const double weight = (i / 2 ? down : 1 - down) * (i % 2 ? right : 1 - right);
                const int r = std::min(row + i / 2, s.rows.from - 1), c = std::min(column + i % 2, s.columns.from - 1);
                visit(h * s.columns.to + w, r * s.columns.from + c, weight);
            }
        }
}

template <class T>
void check_resize(const char* name, const Resize& s) {
    const int planes = 3;
    const auto x = drawn<T>(planes * s.inputs()), dy = drawn<T>(planes * s.outputs());
    std::vector<T> y(dy.size()), dx(x.size());
    std::vector<float> strips((size_t)planes * s.rows.from * s.columns.to);
    segnext::resize(x.data(), y.data(), planes, s);
    segnext::resize_gradient(dy.data(), strips.data(), dx.data(), planes, s);
    std::vector<double> ys(y.size()), dxs(x.size());
    for (int p = 0; p < planes; p++)
        each_weight(s, [&](int out, int in, double weight) {
            ys[p * s.outputs() + out] += weight * (float)x[p * s.inputs() + in];
            dxs[p * s.inputs() + in] += weight * (float)dy[p * s.outputs() + out];
        });
    expect_equal(name, y, ys);
    expect_equal(name, dx, dxs);
}

void check_loss(const Resize& s) {
    const int batch = 2, classes = 3;
    const auto logits = drawn<float>(batch * classes * s.inputs()), dlosses = drawn<float>(batch * s.outputs());
    std::vector<int> labels(dlosses.size());
    for (size_t i = 0; i < labels.size(); i++) labels[i] = i % 7 ? i % classes : 255;
    std::vector<float> losses(labels.size()), normalisers(labels.size()), dlogits(logits.size());
    std::vector<float> strips((size_t)classes * s.rows.from * s.columns.to);
    segnext::cross_entropy(logits.data(), labels.data(), losses.data(), normalisers.data(), batch, classes, s);
    segnext::cross_entropy_gradient(logits.data(), labels.data(), normalisers.data(), dlosses.data(), strips.data(),
                                    dlogits.data(), batch, classes, s);
    std::vector<double> expected(losses.size()), slopes(logits.size());
    for (int n = 0; n < batch; n++) {
        std::vector<double> large(classes * s.outputs());
        for (int k = 0; k < classes; k++)
            each_weight(s, [&](int out, int in, double weight) {
                large[k * s.outputs() + out] += weight * logits[(n * classes + k) * s.inputs() + in];
            });
        for (int p = 0; p < s.outputs(); p++) {
            double sum = 0;
            for (int k = 0; k < classes; k++) sum += std::exp(large[k * s.outputs() + p]);
            const int label = labels[n * s.outputs() + p];
            for (int k = 0; k < classes; k++) {
                double& logit = large[k * s.outputs() + p];
                if (k == label) expected[n * s.outputs() + p] = std::log(sum) - logit;
                logit = label == 255 ? 0 : dlosses[n * s.outputs() + p] * (std::exp(logit) / sum - (k == label));
            }
        }
        for (int k = 0; k < classes; k++)
            each_weight(s, [&](int out, int in, double weight) {
                slopes[(n * classes + k) * s.inputs() + in] += weight * large[k * s.outputs() + out];
            });
    }
    expect_equal("losses", losses, expected);
    expect_equal("gradient of the logits", dlogits, slopes);
}

int main() {
    check_resize<float>("larger", {{5, 13}, {7, 19}});
    check_resize<__half>("smaller, float16", {{12, 5}, {9, 4}});
    check_resize<__nv_bfloat16>("one pixel, bfloat16", {{1, 3}, {1, 4}});
    check_loss({{4, 16}, {3, 24}});
    return failures;
}
