// y = x + (branch + shortcut), the sum scaled by a factor of its channel and one of its image, on the CPU, float32; shortcut: or null.
#include <algorithm>
#include <cstddef>

namespace segnext {

struct Residual {
    ptrdiff_t batch, channels, pixels;
};

inline void add_scaled(const float* x, const float* branch, const float* shortcut, const float* scale, const float* keep,
                       float* y, const Residual& s) {
#pragma omp parallel for
    for (ptrdiff_t j = 0; j < s.batch * s.channels; j++) {
        const float channel = scale[j % s.channels], image = keep[j / s.channels];
        const ptrdiff_t first = j * s.pixels, last = first + s.pixels;
        if (shortcut) {
#pragma omp simd
            for (ptrdiff_t i = first; i < last; i++) y[i] = x[i] + (branch[i] + shortcut[i]) * channel * image;
        } else {
#pragma omp simd
            for (ptrdiff_t i = first; i < last; i++) y[i] = x[i] + branch[i] * channel * image;
        }
    }
}

// The gradient of the branch is that of the shortcut as well.
inline void add_scaled_gradient(const float* dy, const float* branch, const float* shortcut, const float* scale,
                                const float* keep, float* dbranch, float* dscale, const Residual& s) {
#pragma omp parallel for
    for (ptrdiff_t c = 0; c < s.channels; c++) {
        double total = 0;
        for (ptrdiff_t b = 0; b < s.batch; b++) {
            const ptrdiff_t start = (b * s.channels + c) * s.pixels;
            const float factor = scale[c] * keep[b];
            double plane = 0;
            for (ptrdiff_t first = start; first < start + s.pixels; first += 1024) {
                float part = 0;
                const ptrdiff_t last = std::min(first + 1024, start + s.pixels);
#pragma omp simd reduction(+ : part)
                for (ptrdiff_t i = first; i < last; i++) {
                    dbranch[i] = dy[i] * factor;
                    part += dy[i] * branch[i];
                }
                if (shortcut) {
#pragma omp simd reduction(+ : part)
                    for (ptrdiff_t i = first; i < last; i++) part += dy[i] * shortcut[i];
                }
                plane += part;
            }
            total += plane * keep[b];
        }
        dscale[c] = total;
    }
}

}  // namespace segnext
