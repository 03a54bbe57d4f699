// Products of matrices by cuBLAS, and 1x1 convolutions as such on maps (batch, channels, pixels) as they lie: a matrix product
// for each image. Types of maps and weights are float, __half or __nv_bfloat16; sums are float. matrices.h comes first.
#pragma once
#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace jittor {
extern cublasHandle_t cublas_handle;
}

namespace segnext {

inline cudaDataType type_of(const float*) { return CUDA_R_32F; }
inline cudaDataType type_of(const __half*) { return CUDA_R_16F; }
inline cudaDataType type_of(const __nv_bfloat16*) { return CUDA_R_16BF; }

// c (m x n) = a (m x k) · b (k x n) of `batch` matrices, or plus what is there; tf32: float factors may be rounded to 10 bits.
template <class T, class U>
void multiply(int batch, int m, int n, int k, Matrices<T> a, Matrices<T> b, Matrices<U> c, bool add, bool tf32) {
    const float one = 1.f, before = add ? 1.f : 0.f;
    const bool rounds = tf32 && type_of(a.data) == CUDA_R_32F;
    const cublasStatus_t status = cublasGemmStridedBatchedEx(
        jittor::cublas_handle, a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N, b.transposed ? CUBLAS_OP_T : CUBLAS_OP_N, m, n, k,
        &one, a.data, type_of(a.data), a.lead, a.stride, b.data, type_of(b.data), b.lead, b.stride, &before, c.data,
        type_of(c.data), c.lead, c.stride, batch, rounds ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F,
        CUBLAS_GEMM_DEFAULT);
    if (status != CUBLAS_STATUS_SUCCESS)
        LOGf << "cuBLAS could not multiply: status" << (int)status << "of" << m << n << k << "in" << batch;
}

struct MapProducts {
    int batch, channels_in, channels, pixels;
    bool tf32;

    // y = weights · x
    template <class T>
    void forward(const T* x, const T* weights, T* y) const {
        multiply<const T, T>(batch, pixels, channels, channels_in, {x, pixels, maps(channels_in), false},
                             {weights, channels_in, 0, false}, {y, pixels, maps(channels), false}, false, tf32);
    }
    // dx = transposed weights · dy, or is added to what is there.
    template <class T>
    void input_gradient(const T* dy, const T* weights, T* dx, bool add = false) const {
        multiply<const T, T>(batch, pixels, channels_in, channels, {dy, pixels, maps(channels), false},
                             {weights, channels_in, 0, true}, {dx, pixels, maps(channels_in), false}, add, tf32);
    }
    // parts[image] = dy · transposed x
    template <class T>
    void weight_gradient(const T* x, const T* dy, float* parts) const {
        const long long size = (long long)channels_in * channels;
        multiply<const T, float>(batch, channels_in, channels, pixels, {x, pixels, maps(channels_in), true},
                                 {dy, pixels, maps(channels), false}, {parts, channels_in, size, false}, false, tf32);
    }

  private:
    long long maps(int channels) const { return (long long)channels * pixels; }
};

}  // namespace segnext
