// A kernel with a barrier and one without, for the machine itself.
#include "expect.h"

static __global__ void reverse(int* values) {
    __shared__ int kept[64];
    kept[threadIdx.x] = values[blockIdx.x * blockDim.x + threadIdx.x];
    __syncthreads();
    values[blockIdx.x * blockDim.x + threadIdx.x] = kept[blockDim.x - 1 - threadIdx.x];
}

static __global__ void count(int* total) { atomicAdd(total, 1); }

static __global__ void diverge() {
    if (threadIdx.x % 2) __syncthreads();
}

int main(int arguments, char**) {
    std::vector<int> values(128);
    for (int i = 0; i < 128; i++) values[i] = i;
    reverse<<<2, 64>>>(values.data());
    for (int i = 0; i < 128; i++) failures += values[i] != i / 64 * 64 + 63 - i % 64;
    int total = 0;
    count<<<dim3(2, 3), dim3(4, 5), 0, 0>>>(&total);
    failures += total != 120;
    if (arguments > 1) diverge<<<1, 4>>>();
    return failures;
}
