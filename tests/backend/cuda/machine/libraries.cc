// cuBLAS and cuRAND of the machine in plain C++, and cuSPARSE without its products, which nothing here uses.
#include <cublas_v2.h>
#include <curand.h>

#include <algorithm>
#include <random>

#include "elements.h"
#include "recorder.h"

namespace {

// A matrix as cuBLAS sees it: columns one after another, `lead` elements apart, transposed or not.
struct Matrix {
    const void* data;
    cudaDataType type;
    long long lead, stride;
    bool transposed;

    float at(long long number, int row, int column) const {
        return element(data, number * stride + (transposed ? row * lead + column : column * lead + row), type);
    }
};

// Its three matrices, each once; what all products of a batch share is counted once.
void record_product(int m, int n, int k, const Matrix& a, const Matrix& b, const Matrix& c, size_t count, bool adds) {
    const auto bytes = [&](const Matrix& x, size_t elements) {
        machine_record("address %zu", (size_t)x.data);
        return elements * (x.stride || count == 1 ? count : 1) * element_size(x.type);
    };
    machine_record("moves %zu", bytes(a, (size_t)m * k) + bytes(b, (size_t)k * n) + (adds ? 2 : 1) * bytes(c, (size_t)m * n));
}

// c (m x n) = a (m x k) b (k x n) of each number; sums are float.
cublasStatus_t multiply(const char* call, int m, int n, int k, Matrix a, Matrix b, Matrix c, int count, float alpha, float beta,
                        cublasComputeType_t compute) {
    machine_record("library %s, %dx%dx%d, %d of type %d", call, m, n, k, count, (int)a.type);
    record_product(m, n, k, a, b, c, count, beta != 0);
    const bool narrow = a.type != CUDA_R_32F;
    if (a.type != b.type || (compute == CUBLAS_COMPUTE_16F && a.type != CUDA_R_16F)) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (narrow && compute != CUBLAS_COMPUTE_32F && compute != CUBLAS_COMPUTE_16F) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (!machine_computes()) return CUBLAS_STATUS_SUCCESS;
    const bool rounded = compute == CUBLAS_COMPUTE_32F_FAST_TF32;
    for (int number = 0; number < count; number++)
        for (int j = 0; j < n; j++)
            for (int i = 0; i < m; i++) {
                float sum = 0;
                for (int l = 0; l < k; l++) {
                    const float x = a.at(number, i, l), y = b.at(number, l, j);
                    sum += rounded ? as_tf32(x) * as_tf32(y) : x * y;
                }
                const long long place = number * c.stride + j * c.lead + i;
                const float before = beta == 0 ? 0 : beta * element(c.data, place, c.type);
                set_element((void*)c.data, place, c.type, alpha * sum + before);
            }
    return CUBLAS_STATUS_SUCCESS;
}

std::mt19937& generator() {
    static std::mt19937 generator;
    return generator;
}

}  // namespace

extern "C" {

cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) { return *handle = (cublasHandle_t)1, CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasDestroy_v2(cublasHandle_t) { return CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t, cublasOperation_t turn_a, cublasOperation_t turn_b, int m, int n, int k,
                                          const void* alpha, const void* a, cudaDataType type_a, int lead_a, long long stride_a,
                                          const void* b, cudaDataType type_b, int lead_b, long long stride_b, const void* beta,
                                          void* c, cudaDataType type_c, int lead_c, long long stride_c, int count,
                                          cublasComputeType_t compute, cublasGemmAlgo_t) {
    const cudaDataType scale = compute == CUBLAS_COMPUTE_16F ? CUDA_R_16F : CUDA_R_32F;
    return multiply("cublas batched", m, n, k, {a, type_a, lead_a, stride_a, turn_a != CUBLAS_OP_N},
                    {b, type_b, lead_b, stride_b, turn_b != CUBLAS_OP_N}, {c, type_c, lead_c, stride_c, false}, count,
                    element(alpha, 0, scale), element(beta, 0, scale), compute);
}
cublasStatus_t cublasGemmEx(cublasHandle_t, cublasOperation_t turn_a, cublasOperation_t turn_b, int m, int n, int k,
                            const void* alpha, const void* a, cudaDataType type_a, int lead_a, const void* b, cudaDataType type_b,
                            int lead_b, const void* beta, void* c, cudaDataType type_c, int lead_c, cublasComputeType_t compute,
                            cublasGemmAlgo_t) {
    const cudaDataType scale = compute == CUBLAS_COMPUTE_16F ? CUDA_R_16F : CUDA_R_32F;
    return multiply("cublas single", m, n, k, {a, type_a, lead_a, 0, turn_a != CUBLAS_OP_N},
                    {b, type_b, lead_b, 0, turn_b != CUBLAS_OP_N}, {c, type_c, lead_c, 0, false}, 1, element(alpha, 0, scale),
                    element(beta, 0, scale), compute);
}
cublasStatus_t cublasSgemm_v2(cublasHandle_t, cublasOperation_t turn_a, cublasOperation_t turn_b, int m, int n, int k,
                              const float* alpha, const float* a, int lead_a, const float* b, int lead_b, const float* beta,
                              float* c, int lead_c) {
    return multiply("cublas single", m, n, k, {a, CUDA_R_32F, lead_a, 0, turn_a != CUBLAS_OP_N},
                    {b, CUDA_R_32F, lead_b, 0, turn_b != CUBLAS_OP_N}, {c, CUDA_R_32F, lead_c, 0, false}, 1, *alpha, *beta,
                    CUBLAS_COMPUTE_32F);
}

curandStatus_t curandCreateGenerator(curandGenerator_t*, curandRngType_t) { return CURAND_STATUS_SUCCESS; }
curandStatus_t curandDestroyGenerator(curandGenerator_t) { return CURAND_STATUS_SUCCESS; }
curandStatus_t curandSetPseudoRandomGeneratorSeed(curandGenerator_t, unsigned long long seed) {
    return generator().seed(seed), CURAND_STATUS_SUCCESS;
}
#define GENERATES(NAME, TYPE, DISTRIBUTION, ...)                                              \
    curandStatus_t NAME(curandGenerator_t, TYPE* array, size_t count, ##__VA_ARGS__) {        \
        machine_record("library curand, %zu", count);                                         \
        std::DISTRIBUTION<TYPE> distribution;                                                 \
        if (machine_computes()) std::generate_n(array, count, [&] { return distribution(generator()); }); \
        return CURAND_STATUS_SUCCESS;                                                         \
    }
GENERATES(curandGenerateUniform, float, uniform_real_distribution)
GENERATES(curandGenerateUniformDouble, double, uniform_real_distribution)
GENERATES(curandGenerateNormal, float, normal_distribution, float, float)
GENERATES(curandGenerateNormalDouble, double, normal_distribution, double, double)

#define UNUSED(NAME) \
    size_t NAME() { return 0; }
UNUSED(cusparseCreate)
UNUSED(cusparseDestroy)
UNUSED(cusparseCreateCoo)
UNUSED(cusparseCreateCsr)
UNUSED(cusparseCreateDnMat)
UNUSED(cusparseDestroyDnMat)
UNUSED(cusparseDestroySpMat)
UNUSED(cusparseSpMM)
UNUSED(cusparseSpMM_bufferSize)
UNUSED(cudnnCreateDropoutDescriptor)
UNUSED(cudnnCreateRNNDescriptor)
UNUSED(cudnnDestroyDropoutDescriptor)
UNUSED(cudnnDestroyRNNDescriptor)
UNUSED(cudnnDropoutGetStatesSize)
UNUSED(cudnnSetDropoutDescriptor)

}
