// A GPU that computes nothing, in the place of libcudart, libcublas and libcudnn: memory lies on the host, kernels are not
// launched, and the libraries' calls succeed at once. With it Jittor compiles all that it would for a real GPU of sm_90.
#include <cuda_runtime_api.h>

#include <cstdlib>
#include <cstring>

namespace {
const size_t MEMORY = size_t(80) << 30;
cudaError_t allocate(void** pointer, size_t size) {
    *pointer = calloc(size, 1);
    return *pointer ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t release(void* pointer) {
    free(pointer);
    return cudaSuccess;
}
cudaError_t copy(void* to, const void* from, size_t size) {
    memmove(to, from, size);
    return cudaSuccess;
}
}  // namespace

extern "C" {

// At first 0, which Jittor keeps and then opens no library, unless these are stood in for as well; later 1, when it wants
// to know what to compile for.
cudaError_t cudaGetDeviceCount(int* count) {
    static int calls = 0;
    *count = calls++ > 0 || getenv("STAND_IN_LIBRARIES");
    return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaDeviceReset() { return cudaSuccess; }
cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaPeekAtLastError() { return cudaSuccess; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* card, int) {
    memset(card, 0, sizeof(*card));
    strcpy(card->name, "Simulated GPU");
    card->major = 9;
    card->totalGlobalMem = MEMORY;
    card->multiProcessorCount = 132;
    card->warpSize = 32;
    card->maxThreadsPerBlock = 1024;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
    *value = attribute == cudaDevAttrComputeCapabilityMajor ? 9 : attribute == cudaDevAttrMultiProcessorCount ? 132 : 0;
    return cudaSuccess;
}
const char* cudaGetErrorName(cudaError_t) { return "an error"; }
const char* cudaGetErrorString(cudaError_t) { return "an error"; }
cudaError_t cudaLaunchKernel(const void*, dim3, dim3, void**, size_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
    memset(attributes, 0, sizeof(*attributes));
    return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) { return *free = *total = MEMORY, cudaSuccess; }

cudaError_t cudaMalloc(void** pointer, size_t size) { return allocate(pointer, size); }
cudaError_t cudaMallocManaged(void** pointer, size_t size, unsigned) { return allocate(pointer, size); }
cudaError_t cudaMallocHost(void** pointer, size_t size) { return allocate(pointer, size); }
cudaError_t cudaFree(void* pointer) { return release(pointer); }
cudaError_t cudaFreeHost(void* pointer) { return release(pointer); }
cudaError_t cudaMemcpy(void* to, const void* from, size_t size, cudaMemcpyKind) { return copy(to, from, size); }
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size, cudaMemcpyKind, cudaStream_t) {
    return copy(to, from, size);
}
cudaError_t cudaMemset(void* pointer, int value, size_t size) { return memset(pointer, value, size), cudaSuccess; }
cudaError_t cudaMemsetAsync(void* pointer, int value, size_t size, cudaStream_t) {
    return cudaMemset(pointer, value, size);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t*, unsigned) { return cudaSuccess; }
cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t*, unsigned) { return cudaSuccess; }
cudaError_t cudaEventCreate(cudaEvent_t*) { return cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventElapsedTime(float* time, cudaEvent_t, cudaEvent_t) { return *time = 1, cudaSuccess; }
cudaError_t cudaLaunchHostFunc(cudaStream_t, cudaHostFn_t call, void* data) { return call(data), cudaSuccess; }
unsigned __cudaPushCallConfiguration(dim3, dim3, size_t, cudaStream_t) { return 1; }  // <<<>>> then launches nothing

// These need no more than an answer of 0, which is success everywhere: what nvcc's own code calls, then the libraries.
#define SUCCEEDS(NAME) size_t NAME() { return 0; }
SUCCEEDS(__cudaRegisterFatBinary)
SUCCEEDS(__cudaRegisterFatBinaryEnd)
SUCCEEDS(__cudaUnregisterFatBinary)
SUCCEEDS(__cudaRegisterFunction)
SUCCEEDS(__cudaRegisterVar)
SUCCEEDS(__cudaPopCallConfiguration)
SUCCEEDS(__cudaGetKernel)
SUCCEEDS(__cudaLaunchKernel)
SUCCEEDS(curandCreateGenerator)
SUCCEEDS(curandDestroyGenerator)
SUCCEEDS(curandSetPseudoRandomGeneratorSeed)
SUCCEEDS(curandGenerateUniform)
SUCCEEDS(curandGenerateUniformDouble)
SUCCEEDS(curandGenerateNormal)
SUCCEEDS(curandGenerateNormalDouble)
SUCCEEDS(cusparseCreate)
SUCCEEDS(cusparseDestroy)
SUCCEEDS(cusparseCreateCoo)
SUCCEEDS(cusparseCreateCsr)
SUCCEEDS(cusparseCreateDnMat)
SUCCEEDS(cusparseDestroyDnMat)
SUCCEEDS(cusparseDestroySpMat)
SUCCEEDS(cusparseSpMM)
SUCCEEDS(cusparseSpMM_bufferSize)
SUCCEEDS(cublasCreate_v2)
SUCCEEDS(cublasDestroy_v2)
SUCCEEDS(cublasGemmEx)
SUCCEEDS(cublasGemmStridedBatchedEx)
SUCCEEDS(cublasSgemm_v2)
SUCCEEDS(cudnnConvolutionBackwardData)
SUCCEEDS(cudnnConvolutionBackwardFilter)
SUCCEEDS(cudnnConvolutionForward)
SUCCEEDS(cudnnCreate)
SUCCEEDS(cudnnCreateConvolutionDescriptor)
SUCCEEDS(cudnnCreateDropoutDescriptor)
SUCCEEDS(cudnnCreateFilterDescriptor)
SUCCEEDS(cudnnCreateRNNDescriptor)
SUCCEEDS(cudnnCreateTensorDescriptor)
SUCCEEDS(cudnnDestroy)
SUCCEEDS(cudnnDestroyConvolutionDescriptor)
SUCCEEDS(cudnnDestroyDropoutDescriptor)
SUCCEEDS(cudnnDestroyFilterDescriptor)
SUCCEEDS(cudnnDestroyRNNDescriptor)
SUCCEEDS(cudnnDestroyTensorDescriptor)
SUCCEEDS(cudnnDropoutGetStatesSize)
SUCCEEDS(cudnnGetConvolutionBackwardDataAlgorithm_v7)
SUCCEEDS(cudnnGetConvolutionBackwardFilterAlgorithm_v7)
SUCCEEDS(cudnnGetConvolutionForwardAlgorithm_v7)
SUCCEEDS(cudnnGetConvolutionMathType)
SUCCEEDS(cudnnGetErrorString)
SUCCEEDS(cudnnSetConvolutionGroupCount)
SUCCEEDS(cudnnSetConvolutionMathType)
SUCCEEDS(cudnnSetConvolutionNdDescriptor)
SUCCEEDS(cudnnSetDropoutDescriptor)
SUCCEEDS(cudnnSetFilterNdDescriptor)
SUCCEEDS(cudnnSetTensorNdDescriptor)

#define NEEDS_NO_WORKSPACE(NAME) \
    int NAME(void*, void*, void*, void*, void*, int, size_t* size) { return *size = 0; }
NEEDS_NO_WORKSPACE(cudnnGetConvolutionForwardWorkspaceSize)
NEEDS_NO_WORKSPACE(cudnnGetConvolutionBackwardDataWorkspaceSize)
NEEDS_NO_WORKSPACE(cudnnGetConvolutionBackwardFilterWorkspaceSize)

#define FINDS_THE_FIRST(NAME)                                                                                         \
    int NAME(void*, void*, void*, void*, void*, void*, void*, void*, int, int* found, void* results, void*, size_t) { \
        memset(results, 0, 32); /* algorithm, status, time and memory */                                              \
        *found = 1;                                                                                                   \
        return 0;                                                                                                     \
    }
FINDS_THE_FIRST(cudnnFindConvolutionForwardAlgorithmEx)
FINDS_THE_FIRST(cudnnFindConvolutionBackwardDataAlgorithmEx)
FINDS_THE_FIRST(cudnnFindConvolutionBackwardFilterAlgorithmEx)

}
