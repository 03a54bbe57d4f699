// cuDNN 9 for a program written for cuDNN 8; `cudnn_nvidia.h` is a link to NVIDIA's own cudnn.h.
#pragma once
#include "cudnn_nvidia.h"
#if CUDNN_MAJOR >= 9

// The recurrent networks of cuDNN 7 are gone. Nothing here uses them, but Jittor compiles the calls.
#define SEGNEXT_CUDNN_REMOVED(NAME)              \
    template <class... Arguments>                \
    static inline cudnnStatus_t NAME(Arguments&&...) { \
        return CUDNN_STATUS_NOT_SUPPORTED;       \
    }
SEGNEXT_CUDNN_REMOVED(cudnnSetRNNDescriptor_v6)
SEGNEXT_CUDNN_REMOVED(cudnnGetRNNParamsSize)
SEGNEXT_CUDNN_REMOVED(cudnnGetRNNWorkspaceSize)
SEGNEXT_CUDNN_REMOVED(cudnnGetRNNTrainingReserveSize)
SEGNEXT_CUDNN_REMOVED(cudnnGetRNNLinLayerMatrixParams)
SEGNEXT_CUDNN_REMOVED(cudnnGetRNNLinLayerBiasParams)
SEGNEXT_CUDNN_REMOVED(cudnnRNNForwardTraining)
SEGNEXT_CUDNN_REMOVED(cudnnRNNForwardInference)
SEGNEXT_CUDNN_REMOVED(cudnnRNNBackwardData)
SEGNEXT_CUDNN_REMOVED(cudnnRNNBackwardWeights)
#undef SEGNEXT_CUDNN_REMOVED

// Jittor names the output's type as the type to compute in: cuDNN refuses bfloat16 there, and half would accumulate in
// half. Both compute in float. And float is float here, where cuDNN by default takes TF32 on GPUs that have it.
static inline cudnnStatus_t segnext_set_convolution(cudnnConvolutionDescriptor_t descriptor, int dimensions,
                                                    const int* padding, const int* stride, const int* dilation,
                                                    cudnnConvolutionMode_t mode, cudnnDataType_t type) {
    const bool narrow = type == CUDNN_DATA_HALF || type == CUDNN_DATA_BFLOAT16;
    const cudnnStatus_t status = cudnnSetConvolutionNdDescriptor(
        descriptor, dimensions, padding, stride, dilation, mode, narrow ? CUDNN_DATA_FLOAT : type);
    if (narrow || status != CUDNN_STATUS_SUCCESS) return status;
    return cudnnSetConvolutionMathType(descriptor, CUDNN_FMA_MATH);
}

// Jittor calls this where its flag use_tensorcore is set or a type is narrow, and would let cuDNN round float to half.
// For float it means TF32 here, which is cuDNN's default.
static inline cudnnStatus_t segnext_use_tensor_cores(cudnnConvolutionDescriptor_t descriptor, cudnnMathType_t type) {
    cudnnMathType_t now;
    const cudnnStatus_t status = cudnnGetConvolutionMathType(descriptor, &now);
    if (status != CUDNN_STATUS_SUCCESS) return status;
    return cudnnSetConvolutionMathType(descriptor, now == CUDNN_FMA_MATH ? CUDNN_DEFAULT_MATH : type);
}

// Which algorithm computes a convolution. Jittor times them all, keeps the fastest under a key that lacks the types, and
// ignores the arithmetic and the memory that belong to it. Here a choice is made once for each convolution, its types
// and its arithmetic, by cuDNN's own heuristics: the same in every run, so that results are. Jittor's is not listened to.
#include <cstdlib>
#include <map>
#include <vector>

namespace segnext_cudnn {

// An algorithm with what it needs.
struct Choice {
    int algorithm;
    cudnnMathType_t math;
    size_t workspace;
};

typedef std::vector<int> Key;
enum { DIMENSIONS = 4 };
static const size_t LARGEST_WORKSPACE = size_t(512) << 20;

inline void add(Key& key, cudnnTensorDescriptor_t descriptor) {
    cudnnDataType_t type;
    int count, sizes[DIMENSIONS], strides[DIMENSIONS];
    cudnnGetTensorNdDescriptor(descriptor, DIMENSIONS, &type, &count, sizes, strides);
    key.push_back(type);
    key.insert(key.end(), sizes, sizes + DIMENSIONS);
    key.insert(key.end(), strides, strides + DIMENSIONS);
}

inline void add(Key& key, cudnnFilterDescriptor_t descriptor) {
    cudnnDataType_t type;
    cudnnTensorFormat_t format;
    int count, sizes[DIMENSIONS];
    cudnnGetFilterNdDescriptor(descriptor, DIMENSIONS, &type, &format, &count, sizes);
    key.push_back(type);
    key.push_back(format);
    key.insert(key.end(), sizes, sizes + DIMENSIONS);
}

// The arithmetic is that which was asked for: an earlier choice may have changed it.
inline void add(Key& key, cudnnConvolutionDescriptor_t descriptor) {
    cudnnConvolutionMode_t mode;
    cudnnDataType_t type;
    cudnnMathType_t math;
    int count, groups, padding[2], stride[2], dilation[2];
    cudnnGetConvolutionNdDescriptor(descriptor, 2, &count, padding, stride, dilation, &mode, &type);
    cudnnGetConvolutionGroupCount(descriptor, &groups);
    cudnnGetConvolutionMathType(descriptor, &math);
    const int all[] = {padding[0], padding[1], stride[0], stride[1], dilation[0], dilation[1], mode, type, groups,
                       math == CUDNN_FMA_MATH};
    key.insert(key.end(), all, all + sizeof(all) / sizeof(*all));
}

#define SEGNEXT_DIRECTION(NAME, PREFIX)                                                                                \
    struct NAME {                                                                                                      \
        typedef cudnnConvolution##PREFIX##Algo_t Algorithm;                                                            \
        typedef cudnnConvolution##PREFIX##AlgoPerf_t Performance;                                                      \
        template <class... Arguments>                                                                                  \
        static cudnnStatus_t suggest(Arguments... arguments) {                                                         \
            return cudnnGetConvolution##NAME##Algorithm_v7(arguments...);                                              \
        }                                                                                                              \
        template <class... Arguments>                                                                                  \
        static cudnnStatus_t compute(Arguments... arguments) {                                                         \
            return cudnnConvolution##NAME(arguments...);                                                               \
        }                                                                                                              \
    };
SEGNEXT_DIRECTION(Forward, Fwd)
SEGNEXT_DIRECTION(BackwardData, BwdData)
SEGNEXT_DIRECTION(BackwardFilter, BwdFilter)
#undef SEGNEXT_DIRECTION

// The algorithms for a convolution, the best first: those that give the same bits every time before all others.
template <class Direction, class A, class B, class D>
std::vector<Choice>& choices(cudnnHandle_t handle, A a, B b, cudnnConvolutionDescriptor_t convolution, D d) {
    static std::map<Key, std::vector<Choice>>& known = *new std::map<Key, std::vector<Choice>>;
    Key key;
    add(key, a);
    add(key, b);
    add(key, convolution);
    add(key, d);
    std::vector<Choice>& found = known[key];
    if (!found.empty()) return found;
    enum { MOST = 16 };
    typename Direction::Performance results[MOST];
    int count = 0;
    if (Direction::suggest(handle, a, b, convolution, d, int(MOST), &count, results) != CUDNN_STATUS_SUCCESS) return found;
    for (int repeatable = 1; repeatable >= 0; repeatable--)
        for (int i = 0; i < count; i++) {
            const typename Direction::Performance& result = results[i];
            if (result.status != CUDNN_STATUS_SUCCESS || result.memory > LARGEST_WORKSPACE) continue;
            if ((result.determinism == CUDNN_DETERMINISTIC) != bool(repeatable)) continue;
            const Choice choice = {int(result.algo), result.mathType, result.memory};
            found.push_back(choice);
        }
    return found;
}

template <class Direction, class A, class B, class D>
cudnnStatus_t find(cudnnHandle_t handle, A a, B b, cudnnConvolutionDescriptor_t convolution, D d, int* count,
                   typename Direction::Performance* result) {
    const std::vector<Choice>& found = choices<Direction>(handle, a, b, convolution, d);
    *count = !found.empty();
    if (found.empty()) return CUDNN_STATUS_NOT_SUPPORTED;
    result->algo = typename Direction::Algorithm(found[0].algorithm);
    result->status = CUDNN_STATUS_SUCCESS;
    result->memory = found[0].workspace;
    result->mathType = found[0].math;
    return CUDNN_STATUS_SUCCESS;
}

template <class Direction, class A, class B, class D>
cudnnStatus_t workspace(cudnnHandle_t handle, A a, B b, cudnnConvolutionDescriptor_t convolution, D d, size_t* size) {
    const std::vector<Choice>& found = choices<Direction>(handle, a, b, convolution, d);
    *size = found.empty() ? 0 : found[0].workspace;
    return found.empty() ? CUDNN_STATUS_NOT_SUPPORTED : CUDNN_STATUS_SUCCESS;
}

// Takes the best algorithm; where it fails, it is dropped and the next one that the workspace suffices for is taken.
template <class Direction, class A, class B, class D>
cudnnStatus_t compute(cudnnHandle_t handle, const void* alpha, A a, const void* from, B b, const void* with,
                      cudnnConvolutionDescriptor_t convolution, void* memory, size_t size, const void* beta, D d, void* to) {
    std::vector<Choice>& found = choices<Direction>(handle, a, b, convolution, d);
    cudnnMathType_t asked;
    cudnnGetConvolutionMathType(convolution, &asked);
    cudnnStatus_t status = CUDNN_STATUS_NOT_SUPPORTED;
    for (size_t i = 0; i < found.size();) {
        if (found[i].workspace > size) {
            i++;
            continue;
        }
        // Plain float32 stays what it is: DEFAULT_MATH, which may be suggested for it, allows TF32.
        cudnnSetConvolutionMathType(convolution, asked == CUDNN_FMA_MATH ? asked : found[i].math);
        const typename Direction::Algorithm algorithm = typename Direction::Algorithm(found[i].algorithm);
        status = Direction::compute(handle, alpha, a, from, b, with, convolution, algorithm, memory, size, beta, d, to);
        if (status == CUDNN_STATUS_SUCCESS) return status;
        found.erase(found.begin() + i);
    }
    return status;
}

}  // namespace segnext_cudnn

#define cudnnSetConvolutionNdDescriptor segnext_set_convolution
#define cudnnSetConvolutionMathType segnext_use_tensor_cores
#define cudnnFindConvolutionForwardAlgorithmEx(h, a, pa, b, pb, c, d, pd, n, count, results, memory, size) \
    segnext_cudnn::find<segnext_cudnn::Forward>(h, a, b, c, d, count, results)
#define cudnnFindConvolutionBackwardDataAlgorithmEx(h, a, pa, b, pb, c, d, pd, n, count, results, memory, size) \
    segnext_cudnn::find<segnext_cudnn::BackwardData>(h, a, b, c, d, count, results)
#define cudnnFindConvolutionBackwardFilterAlgorithmEx(h, a, pa, b, pb, c, d, pd, n, count, results, memory, size) \
    segnext_cudnn::find<segnext_cudnn::BackwardFilter>(h, a, b, c, d, count, results)
#define cudnnGetConvolutionForwardAlgorithm_v7(h, a, b, c, d, n, count, results) \
    segnext_cudnn::find<segnext_cudnn::Forward>(h, a, b, c, d, count, results)
#define cudnnGetConvolutionBackwardDataAlgorithm_v7(h, a, b, c, d, n, count, results) \
    segnext_cudnn::find<segnext_cudnn::BackwardData>(h, a, b, c, d, count, results)
#define cudnnGetConvolutionBackwardFilterAlgorithm_v7(h, a, b, c, d, n, count, results) \
    segnext_cudnn::find<segnext_cudnn::BackwardFilter>(h, a, b, c, d, count, results)
#define cudnnGetConvolutionForwardWorkspaceSize(h, a, b, c, d, algorithm, size) \
    segnext_cudnn::workspace<segnext_cudnn::Forward>(h, a, b, c, d, size)
#define cudnnGetConvolutionBackwardDataWorkspaceSize(h, a, b, c, d, algorithm, size) \
    segnext_cudnn::workspace<segnext_cudnn::BackwardData>(h, a, b, c, d, size)
#define cudnnGetConvolutionBackwardFilterWorkspaceSize(h, a, b, c, d, algorithm, size) \
    segnext_cudnn::workspace<segnext_cudnn::BackwardFilter>(h, a, b, c, d, size)
#define cudnnConvolutionForward(h, alpha, a, pa, b, pb, c, algorithm, memory, size, beta, d, pd) \
    segnext_cudnn::compute<segnext_cudnn::Forward>(h, alpha, a, pa, b, pb, c, memory, size, beta, d, pd)
#define cudnnConvolutionBackwardData(h, alpha, a, pa, b, pb, c, algorithm, memory, size, beta, d, pd) \
    segnext_cudnn::compute<segnext_cudnn::BackwardData>(h, alpha, a, pa, b, pb, c, memory, size, beta, d, pd)
#define cudnnConvolutionBackwardFilter(h, alpha, a, pa, b, pb, c, algorithm, memory, size, beta, d, pd) \
    segnext_cudnn::compute<segnext_cudnn::BackwardFilter>(h, alpha, a, pa, b, pb, c, memory, size, beta, d, pd)

#endif
