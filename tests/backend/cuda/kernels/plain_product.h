// In the place of product_cuda.h: products of matrices without cuBLAS, float alone.
#pragma once
#include <cstddef>

namespace segnext {

template <class T>
struct Matrices {
    T* data;
    int lead;
    long long stride;
    bool transposed;

    T& at(int batch, int row, int column) const {
        return data[batch * stride + (transposed ? (size_t)row * lead + column : (size_t)column * lead + row)];
    }
};

inline void multiply(int batch, int m, int n, int k, Matrices<const float> a, Matrices<const float> b, Matrices<float> c,
                     bool add, bool) {
    for (int i = 0; i < batch; i++)
        for (int row = 0; row < m; row++)
            for (int column = 0; column < n; column++) {
                float sum = add ? c.at(i, row, column) : 0.f;
                for (int j = 0; j < k; j++) sum += a.at(i, row, j) * b.at(i, j, column);
                c.at(i, row, column) = sum;
            }
}

}  // namespace segnext
