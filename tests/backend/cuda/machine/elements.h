// Elements of device arrays of the types that SegNeXt computes in, read and written as float.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <library_types.h>

#include <cstddef>

inline size_t element_size(cudaDataType_t type) { return type == CUDA_R_32F ? 4 : 2; }

inline float element(const void* array, size_t i, cudaDataType_t type) {
    if (type == CUDA_R_32F) return ((const float*)array)[i];
    if (type == CUDA_R_16F) return __half2float(((const __half*)array)[i]);
    return __bfloat162float(((const __nv_bfloat16*)array)[i]);
}

inline void set_element(void* array, size_t i, cudaDataType_t type, float value) {
    if (type == CUDA_R_32F) ((float*)array)[i] = value;
    else if (type == CUDA_R_16F) ((__half*)array)[i] = __float2half_rn(value);
    else ((__nv_bfloat16*)array)[i] = __float2bfloat16_rn(value);
}

// The factor as a tensor core sees it that rounds to TF32: 10 bits after the point, to the nearest, ties away from 0.
inline float as_tf32(float value) {
    unsigned bits;
    __builtin_memcpy(&bits, &value, 4);
    bits = (bits + 0x1000u) & 0xffffe000u;
    __builtin_memcpy(&value, &bits, 4);
    return value;
}
