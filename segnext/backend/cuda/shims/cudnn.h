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
#define cudnnSetConvolutionNdDescriptor segnext_set_convolution
#define cudnnSetConvolutionMathType segnext_use_tensor_cores

#endif
