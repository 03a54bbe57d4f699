// The little of CUB that Jittor's operators use, for the machine.
#pragma once
namespace cub {

struct Max {
    template <class T> T operator()(T a, T b) const { return a > b ? a : b; }
};
struct Sum {
    template <class T> T operator()(T a, T b) const { return a + b; }
};

template <class T, int THREADS>
struct BlockReduce {
    struct TempStorage {
        T values[THREADS];
    };
    TempStorage& storage;

    explicit BlockReduce(TempStorage& storage) : storage(storage) {}

    template <class Operation>
    T Reduce(T value, Operation operation) {
        storage.values[threadIdx.x] = value;
        __syncthreads();
        T result = storage.values[0];
        for (int i = 1; threadIdx.x == 0 && i < THREADS; i++) result = operation(result, storage.values[i]);
        __syncthreads();
        return result;
    }
    T Sum(T value) { return Reduce(value, cub::Sum()); }
};

}  // namespace cub
