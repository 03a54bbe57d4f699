// A fault on purpose: two blocks write to the same places.
#include "expect.h"

static __global__ void overlap(int* values) { values[threadIdx.x] = blockIdx.x; }

int main() {
    std::vector<int> values(8);
    overlap<<<2, 8>>>(values.data());
    return failures;
}
