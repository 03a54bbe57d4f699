// Where a bilinear resize (align_corners=False) reads along one dimension, on the CPU and on CUDA.
#pragma once
#include <cmath>

namespace segnext {

// Output = (1 - weight) * input[low] + weight * input[high].
struct Sample {
    int low, high;
    float weight;

    SEGNEXT_EACH float of(int input) const { return (low == input ? 1.f - weight : 0.f) + (high == input ? weight : 0.f); }
};

// A dimension of `from` elements, resized to `to`.
struct Sampling {
    int from, to;

    SEGNEXT_EACH float scale() const { return (float)from / to; }

    SEGNEXT_EACH Sample at(int output) const {
        float position = (output + 0.5f) * scale() - 0.5f;
        position = position < 0.f ? 0.f : position > from - 1.f ? from - 1.f : position;
        const int low = (int)position;
        return {low, low + 1 < from ? low + 1 : low, position - low};
    }

    // The outputs that may read an input: some at the ends may have weight 0.
    SEGNEXT_EACH int first(int input) const {
        const int output = input == 0 ? 0 : (int)floorf((input - 0.5f) / scale() - 0.5f) - 1;
        return output < 0 ? 0 : output;
    }
    SEGNEXT_EACH int last(int input) const {
        const int output = input == from - 1 ? to - 1 : (int)ceilf((input + 1.5f) / scale() - 0.5f) + 1;
        return output > to - 1 ? to - 1 : output;
    }
};

struct Resize {
    Sampling rows, columns;

    SEGNEXT_EACH int inputs() const { return rows.from * columns.from; }
    SEGNEXT_EACH int outputs() const { return rows.to * columns.to; }
};

}  // namespace segnext
