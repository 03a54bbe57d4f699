// A fault on purpose: more threads than the shared array has places.
#include "expect.h"

static __global__ void beyond(int* values) {
    __shared__ int kept[7];
    int* first = kept;  // whose length UBSan does not know
    first[threadIdx.x] = values[threadIdx.x];
    __syncthreads();
    values[threadIdx.x] = first[threadIdx.x];
}

int main() {
    std::vector<int> values(8);
    beyond<<<1, 8>>>(values.data());
    return failures;
}
