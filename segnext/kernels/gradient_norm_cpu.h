// The norm of many arrays on the CPU, float32, summed in runs, each by one thread: the same bits for any number of threads.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace segnext {

static double square_sum(const float* x, ptrdiff_t count) {
    const ptrdiff_t run = 4096, runs = (count + run - 1) / run;
    std::vector<double> parts(runs);
#pragma omp parallel for if (runs > 16)
    for (ptrdiff_t i = 0; i < runs; i++) {
        const ptrdiff_t last = std::min(count, (i + 1) * run);
        float part = 0;
#pragma omp simd reduction(+ : part)
        for (ptrdiff_t j = i * run; j < last; j++) part += x[j] * x[j];
        parts[i] = part;
    }
    double total = 0;
    for (double part : parts) total += part;
    return total;
}

// The norm of `before` and the first `number` of N arrays together.
template <int N>
void add_to_norm(const float* before, const float* const (&arrays)[N], const size_t (&counts)[N], int number, float* norm) {
    double total = (double)*before * *before;
    for (int n = 0; n < number; n++) total += square_sum(arrays[n], counts[n]);
    *norm = std::sqrt(total);
}

}  // namespace segnext
