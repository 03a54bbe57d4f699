// Matrices of a batch.
#pragma once

namespace segnext {

// A number of matrices of elements T, column by column; `stride` 0: the same one every time.
template <class T>
struct Matrices {
    T* data;
    int lead;
    long long stride;
    bool transposed;
};

}  // namespace segnext
