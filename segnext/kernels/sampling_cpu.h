// Rows and columns picked and blended, and the best of all channels, on the CPU; taps.h comes first.
#include <algorithm>
#include <cstddef>
#include <vector>

namespace segnext {

inline void sample(const float* x, float* y, ptrdiff_t channels, ptrdiff_t height, ptrdiff_t width, const Taps& rows,
                   const Taps& columns) {
#pragma omp parallel for collapse(2)
    for (ptrdiff_t c = 0; c < channels; c++)
        for (ptrdiff_t i = 0; i < rows.count; i++) {
            std::vector<float> row(width);
            const float *first = x + (c * height + rows.first[i]) * width, *second = x + (c * height + rows.second[i]) * width;
            const float w = rows.weight[i];
            for (ptrdiff_t j = 0; j < width; j++) row[j] = first[j] * (1 - w) + second[j] * w;
            float* to = y + (c * rows.count + i) * columns.count;
            for (ptrdiff_t j = 0; j < columns.count; j++)
                to[j] = row[columns.first[j]] * (1 - columns.weight[j]) + row[columns.second[j]] * columns.weight[j];
        }
}

// The first of the channels with the largest value, of every pixel.
inline void best_channel(const float* x, int* best, ptrdiff_t channels, ptrdiff_t pixels) {
    constexpr ptrdiff_t PIECE = 256;
#pragma omp parallel for
    for (ptrdiff_t start = 0; start < pixels; start += PIECE) {
        const ptrdiff_t count = std::min(PIECE, pixels - start);
        float highest[PIECE];
        std::copy_n(x + start, count, highest);
        std::fill_n(best + start, count, 0);
        for (ptrdiff_t c = 1; c < channels; c++) {
            const float* row = x + c * pixels + start;
#pragma omp simd
            for (ptrdiff_t i = 0; i < count; i++) {
                const bool higher = row[i] > highest[i];
                best[start + i] = higher ? (int)c : best[start + i];
                highest[i] = higher ? row[i] : highest[i];
            }
        }
    }
}

}  // namespace segnext
