// The norm of many arrays on CUDA, float32, by two launches; the order is fixed, so the bits are the same every time.
// planes_cuda.h comes first.

namespace segnext {

template <int N>
struct Arrays {
    const float* of[N];
    size_t counts[N];
};

// parts (number, gridDim.x)
template <int N>
static __global__ void __launch_bounds__(THREADS) square_sums(Arrays<N> arrays, float* parts) {
    __shared__ float shared[THREADS];
    const float* x = arrays.of[blockIdx.y];
    float sum = 0.f;
    const size_t first = blockIdx.x * THREADS + threadIdx.x, step = gridDim.x * THREADS;
    for (size_t i = first; i < arrays.counts[blockIdx.y]; i += step) sum += x[i] * x[i];
    sum = add_up(sum, shared);
    if (threadIdx.x == 0) parts[blockIdx.y * gridDim.x + blockIdx.x] = sum;
}

// By one block.
static __global__ void __launch_bounds__(THREADS) norm_of_parts(const float* before, const float* parts, float* norm, int count) {
    __shared__ double shared[THREADS];
    double sum = 0;
    for (int i = threadIdx.x; i < count; i += THREADS) sum += parts[i];
    sum = add_up(sum, shared);
    if (threadIdx.x == 0) *norm = sqrt(sum + (double)*before * *before);
}

// The norm of `before` and the first `number` of N arrays together; `parts` (number, blocks).
template <int N>
void add_to_norm(const float* before, const float* const (&arrays)[N], const size_t (&counts)[N], int number, float* norm,
                 float* parts, int blocks) {
    Arrays<N> given;
    for (int n = 0; n < N; n++) {
        given.of[n] = arrays[n];
        given.counts[n] = counts[n];
    }
    square_sums<<<dim3(blocks, number), THREADS>>>(given, parts);
    norm_of_parts<<<1, THREADS>>>(before, parts, norm, number * blocks);
}

}  // namespace segnext
