// In the place of product_cuda.h: products of matrices without cuBLAS, float alone; matrices.h comes first.
#pragma once
#include <cstddef>

namespace segnext {

template <class T>
T& element(const Matrices<T>& m, int number, int row, int column) {
    return m.data[number * m.stride + (m.transposed ? (size_t)row * m.lead + column : (size_t)column * m.lead + row)];
}

inline void multiply(int batch, int m, int n, int k, Matrices<const float> a, Matrices<const float> b, Matrices<float> c,
                     bool add, bool) {
    for (int i = 0; i < batch; i++)
        for (int row = 0; row < m; row++)
            for (int column = 0; column < n; column++) {
                float sum = add ? element(c, i, row, column) : 0.f;
                for (int j = 0; j < k; j++) sum += element(a, i, row, j) * element(b, i, j, column);
                element(c, i, row, column) = sum;
            }
}

}  // namespace segnext
