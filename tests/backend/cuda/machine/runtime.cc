// libcudart of the machine: device memory lies on the host, every call is recorded, and streams run at once.
#include <cuda_runtime_api.h>

#include <sys/mman.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>

#include "recorder.h"

namespace {

const size_t MEMORY = size_t(80) << 30;
const int ARCHITECTURE = 90;
const unsigned MOST_THREADS = 1024;  // in a block

std::mutex mutex;
std::map<void*, size_t> sizes;  // of what is allocated on the device
size_t live = 0, peak = 0;
thread_local cudaError_t last_error = cudaSuccess;

FILE* log_file() {
    static FILE* file = getenv("CUDA_MACHINE_LOG") ? fopen(getenv("CUDA_MACHINE_LOG"), "a") : nullptr;
    return file;
}

// Pages that nobody writes to take no memory: a training step of any size can be recorded without being computed.
cudaError_t allocate(void** pointer, size_t size) {
    std::lock_guard<std::mutex> lock(mutex);
    if (live + size > MEMORY) return cudaErrorMemoryAllocation;
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    *pointer = mmap(nullptr, size ? size : 1, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (*pointer == MAP_FAILED) return cudaErrorMemoryAllocation;
    sizes[*pointer] = size;
    live += size;
    if (live > peak) peak = live;
    machine_record("allocate %zu", size);
    return cudaSuccess;
}

cudaError_t release(void* pointer) {
    std::lock_guard<std::mutex> lock(mutex);
    const auto found = sizes.find(pointer);
    if (found == sizes.end()) return pointer ? cudaErrorInvalidValue : cudaSuccess;
    munmap(pointer, found->second ? found->second : 1);
    live -= found->second;
    sizes.erase(found);
    return cudaSuccess;
}

const char* direction(cudaMemcpyKind kind) {
    const char* names[] = {"host to host", "host to device", "device to host", "device to device", "by address"};
    return names[kind];
}

cudaError_t copy(const char* how, void* to, const void* from, size_t size, cudaMemcpyKind kind) {
    machine_record("copy %s, %s, %zu", direction(kind), how, size);
    // Without computing, what lies on the device stays zero: large pages need not come to be. What is fetched is small
    // numbers then, since a training stops at a loss of exactly 0.
    if (machine_computes() || kind == cudaMemcpyHostToHost) return memmove(to, from, size), cudaSuccess;
    if (kind == cudaMemcpyDeviceToHost) memset(to, 0x3c, size);  // 0.0115 in float and bfloat16
    else if (size <= 4096) memmove(to, from, size);
    return cudaSuccess;
}

cudaError_t synchronise(const char* what) { return machine_record("synchronise %s", what), cudaSuccess; }

}  // namespace

extern "C" {

void machine_record(const char* format, ...) {
    FILE* file = log_file();
    if (!file) return;
    va_list arguments;
    va_start(arguments, format);
    flockfile(file);
    vfprintf(file, format, arguments);
    fputc('\n', file);
    funlockfile(file);
    va_end(arguments);
}

bool machine_computes() {
    static const bool computes = !getenv("CUDA_MACHINE_IDLE");
    return computes;
}

bool machine_starts(unsigned threads) {
    if (threads >= 1 && threads <= MOST_THREADS) return true;
    last_error = cudaErrorInvalidConfiguration;
    return false;
}

void machine_mark(const char* name) {
    machine_record("mark %s, peak %zu", name, peak);
    if (log_file()) fflush(log_file());
}

// With the real libraries, which want a real GPU, Jittor is first told that there is none, so that it opens no library;
// later, when it asks what to compile for, that there is one.
cudaError_t cudaGetDeviceCount(int* count) {
    static int calls = 0;
    *count = calls++ > 0 || !getenv("CUDA_MACHINE_REAL_LIBRARIES");
    return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaDeviceReset() { return cudaSuccess; }
cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return last_error; }
const char* cudaGetErrorName(cudaError_t error) { return error ? "an error" : "cudaSuccess"; }
const char* cudaGetErrorString(cudaError_t error) {
    return error == cudaErrorInvalidConfiguration ? "invalid configuration argument" : error ? "an error" : "no error";
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* card, int) {
    memset(card, 0, sizeof(*card));
    strcpy(card->name, "Simulated GPU");
    card->major = ARCHITECTURE / 10;
    card->minor = ARCHITECTURE % 10;
    card->totalGlobalMem = MEMORY;
    card->multiProcessorCount = 132;
    card->warpSize = 32;
    card->maxThreadsPerBlock = MOST_THREADS;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
    *value = attribute == cudaDevAttrComputeCapabilityMajor ? ARCHITECTURE / 10
             : attribute == cudaDevAttrMultiProcessorCount  ? 132
                                                            : 0;
    return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
    memset(attributes, 0, sizeof(*attributes));
    return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) { return *total = MEMORY, *free = MEMORY - live, cudaSuccess; }

cudaError_t cudaMalloc(void** pointer, size_t size) { return allocate(pointer, size); }
cudaError_t cudaMallocManaged(void** pointer, size_t size, unsigned) { return allocate(pointer, size); }
cudaError_t cudaFree(void* pointer) { return release(pointer); }
cudaError_t cudaMallocHost(void** pointer, size_t size) {
    return (*pointer = malloc(size)) ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaFreeHost(void* pointer) { return free(pointer), cudaSuccess; }

cudaError_t cudaMemcpy(void* to, const void* from, size_t size, cudaMemcpyKind kind) {
    return copy("blocking", to, from, size, kind);
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size, cudaMemcpyKind kind, cudaStream_t) {
    return copy("asynchronous", to, from, size, kind);
}
cudaError_t cudaMemset(void* pointer, int value, size_t size) {
    machine_record("set %zu", size);
    if (machine_computes() || size <= 4096) memset(pointer, value, size);
    return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* pointer, int value, size_t size, cudaStream_t) {
    return cudaMemset(pointer, value, size);
}

cudaError_t cudaDeviceSynchronize() { return synchronise("device"); }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return synchronise("stream"); }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return synchronise("event"); }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) { return *stream = nullptr, cudaSuccess; }
cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) { return *event = nullptr, cudaSuccess; }
cudaError_t cudaEventCreate(cudaEvent_t* event) { return *event = nullptr, cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventElapsedTime(float* time, cudaEvent_t, cudaEvent_t) { return *time = 1, cudaSuccess; }
cudaError_t cudaLaunchHostFunc(cudaStream_t, cudaHostFn_t call, void* data) { return call(data), cudaSuccess; }

// Kernels that the real nvcc has compiled can't run here; not 0 from the first makes <<<>>> launch nothing.
unsigned __cudaPushCallConfiguration(dim3, dim3, size_t, cudaStream_t) { return 1; }
cudaError_t cudaLaunchKernel(const void*, dim3, dim3, void**, size_t, cudaStream_t) { return cudaErrorNotSupported; }

#define SUCCEEDS(NAME) \
    size_t NAME() { return 0; }
SUCCEEDS(__cudaRegisterFatBinary)
SUCCEEDS(__cudaRegisterFatBinaryEnd)
SUCCEEDS(__cudaUnregisterFatBinary)
SUCCEEDS(__cudaRegisterFunction)
SUCCEEDS(__cudaRegisterVar)
SUCCEEDS(__cudaPopCallConfiguration)
SUCCEEDS(__cudaGetKernel)
SUCCEEDS(__cudaLaunchKernel)

}
