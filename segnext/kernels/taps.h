// Where a resize reads along one dimension, as tables: sampling.py works them out.
#pragma once
#include <cstddef>

namespace segnext {

// Outputs: (1 - weight) * input[first] + weight * input[second].
struct Taps {
    const int *first, *second;
    const float* weight;
    ptrdiff_t count;
};

}  // namespace segnext
