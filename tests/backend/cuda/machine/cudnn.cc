// libcudnn of the machine: the legacy calls for convolutions, in plain C++, refusing what cuDNN 9 refuses.
//
// What is supported follows the tables of cuDNN's documentation: sums are float; FFT takes float with stride 1 alone;
// Winograd 3x3 filters with stride 1, fused for float and half, not fused not for bfloat16. The search names a fast
// algorithm of float first, which a program must not take for another type; and it names the arithmetic that goes with
// an algorithm, which the program has to set in turn.
#include <cudnn_nvidia.h>

#include <cstdlib>
#include <cstring>
#include <vector>

#include "elements.h"
#include "recorder.h"

namespace {

struct Array {
    cudnnDataType_t type;
    int sizes[4], strides[4];

    cudaDataType_t element_type() const {
        return type == CUDNN_DATA_FLOAT ? CUDA_R_32F : type == CUDNN_DATA_HALF ? CUDA_R_16F : CUDA_R_16BF;
    }
    size_t count() const { return (size_t)sizes[0] * sizes[1] * sizes[2] * sizes[3]; }
    size_t bytes() const { return count() * element_size(element_type()); }
    template <class Visit>
    void each(Visit visit) const {  // (number in NCHW order, place in memory)
        size_t number = 0;
        for (int a = 0; a < sizes[0]; a++)
            for (int b = 0; b < sizes[1]; b++)
                for (int c = 0; c < sizes[2]; c++)
                    for (int d = 0; d < sizes[3]; d++)
                        visit(number++, (size_t)a * strides[0] + (size_t)b * strides[1] + (size_t)c * strides[2] +
                                            (size_t)d * strides[3]);
    }
    std::vector<float> read(const void* memory, bool tf32) const {
        std::vector<float> values(count());
        each([&](size_t i, size_t place) {
            const float value = element(memory, place, element_type());
            values[i] = tf32 ? as_tf32(value) : value;
        });
        return values;
    }
    void write(void* memory, const std::vector<float>& values) const {
        each([&](size_t i, size_t place) { set_element(memory, place, element_type(), values[i]); });
    }
};

struct Convolution {
    int padding[2], stride[2], dilation[2], groups = 1;
    cudnnDataType_t compute;
    cudnnMathType_t math = CUDNN_DEFAULT_MATH;
};

// One convolution: its input, filters and output, whichever of them are computed.
struct Problem {
    const Array &x, &w, &y;
    const Convolution& convolution;

    bool supported(bool winograd, bool nonfused, bool fft) const {
        const auto type = x.type;
        const bool unit = convolution.stride[0] == 1 && convolution.stride[1] == 1;
        if (w.type != type || y.type != type || convolution.compute != CUDNN_DATA_FLOAT) return false;
        if (w.sizes[1] * convolution.groups != x.sizes[1] || w.sizes[0] != y.sizes[1]) return false;
        if (convolution.groups > 1 && (fft || winograd)) return false;
        if (fft) return type == CUDNN_DATA_FLOAT && unit;
        if (winograd)
            return unit && w.sizes[2] == 3 && w.sizes[3] == 3 && (nonfused ? type != CUDNN_DATA_BFLOAT16 : type == CUDNN_DATA_FLOAT);
        return true;
    }
    bool tf32() const { return x.type == CUDNN_DATA_FLOAT && convolution.math != CUDNN_FMA_MATH; }

    // Calls (place in x, place in w, place in y) for every product of the convolution.
    template <class Product>
    void products(Product product) const {
        const int rows = x.sizes[2], columns = x.sizes[3], filters_of_group = w.sizes[0] / convolution.groups;
        size_t filter = 0;
        for (int k = 0; k < w.sizes[0]; k++)
            for (int c = 0; c < w.sizes[1]; c++)
                for (int i = 0; i < w.sizes[2]; i++)
                    for (int j = 0; j < w.sizes[3]; j++, filter++)
                        for (int n = 0; n < x.sizes[0]; n++)
                            for (int h = 0; h < y.sizes[2]; h++) {
                                const int row = h * convolution.stride[0] - convolution.padding[0] + i * convolution.dilation[0];
                                if (row < 0 || row >= rows) continue;
                                const int channel = k / filters_of_group * w.sizes[1] + c;
                                const size_t from = (((size_t)n * x.sizes[1] + channel) * rows + row) * columns;
                                const size_t to = (((size_t)n * y.sizes[1] + k) * y.sizes[2] + h) * y.sizes[3];
                                for (int v = 0; v < y.sizes[3]; v++) {
                                    const int column = v * convolution.stride[1] - convolution.padding[1] + j * convolution.dilation[1];
                                    if (column >= 0 && column < columns) product(from + column, filter, to + v);
                                }
                            }
    }
    void record(const char* what, int algorithm, size_t workspace) const {
        machine_record("library cudnn %s, type %d, %dx%dx%dx%d by %dx%dx%dx%d stride %d, math %d, algorithm %d, workspace %zu",
                       what, (int)x.type, x.sizes[0], x.sizes[1], x.sizes[2], x.sizes[3], w.sizes[0], w.sizes[1], w.sizes[2],
                       w.sizes[3], convolution.stride[0], (int)convolution.math, algorithm, workspace);
        if (algorithm >= 0) machine_record("moves %zu", x.bytes() + w.bytes() + y.bytes());
    }
};

// Numbers of algorithms differ by direction: which of them are FFT, Winograd fused and not fused.
struct Direction {
    const char* name;
    int count, fft[2], winograd, nonfused, fastest_of_float, usual;

    bool supports(const Problem& problem, int algorithm) const {
        const bool is_fft = algorithm == fft[0] || algorithm == fft[1];
        return algorithm >= 0 && algorithm < count &&
               problem.supported(algorithm == winograd || algorithm == nonfused, algorithm == nonfused, is_fft);
    }
};
const Direction FORWARD{"forward", CUDNN_CONVOLUTION_FWD_ALGO_COUNT,
                        {CUDNN_CONVOLUTION_FWD_ALGO_FFT, CUDNN_CONVOLUTION_FWD_ALGO_FFT_TILING},
                        CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD, CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD_NONFUSED,
                        CUDNN_CONVOLUTION_FWD_ALGO_FFT_TILING, CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM};
const Direction DATA{"backward data", CUDNN_CONVOLUTION_BWD_DATA_ALGO_COUNT,
                     {CUDNN_CONVOLUTION_BWD_DATA_ALGO_FFT, CUDNN_CONVOLUTION_BWD_DATA_ALGO_FFT_TILING},
                     CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD, CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD_NONFUSED,
                     CUDNN_CONVOLUTION_BWD_DATA_ALGO_FFT_TILING, CUDNN_CONVOLUTION_BWD_DATA_ALGO_1};
const Direction FILTER{"backward filter", CUDNN_CONVOLUTION_BWD_FILTER_ALGO_COUNT,
                       {CUDNN_CONVOLUTION_BWD_FILTER_ALGO_FFT, CUDNN_CONVOLUTION_BWD_FILTER_ALGO_FFT_TILING},
                       CUDNN_CONVOLUTION_BWD_FILTER_ALGO_WINOGRAD, CUDNN_CONVOLUTION_BWD_FILTER_ALGO_WINOGRAD_NONFUSED,
                       CUDNN_CONVOLUTION_BWD_FILTER_ALGO_FFT_TILING, CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1};

// The environment makes workspaces large, to see how a program does without.
size_t workspace_of(const Direction& direction, int algorithm) {
    const char* size = getenv("CUDA_MACHINE_WORKSPACE");
    return size && algorithm == direction.usual ? strtoull(size, nullptr, 10) : 0;
}

template <class Performance>
cudnnStatus_t search(const Direction& direction, const Problem& problem, int wanted, int* found, Performance* results,
                     size_t workspace) {
    problem.record("search", -1, workspace);
    std::vector<int> order{direction.fastest_of_float, direction.usual};
    for (int a = 0; a < direction.count; a++)
        if (a != order[0] && a != order[1]) order.push_back(a);
    *found = 0;
    for (int algorithm : order) {
        if (*found == wanted) break;
        if (!direction.supports(problem, algorithm) || workspace_of(direction, algorithm) > workspace) continue;
        Performance& result = results[(*found)++];
        memset(&result, 0, sizeof(result));
        result.algo = (decltype(result.algo))algorithm;
        result.status = CUDNN_STATUS_SUCCESS;
        result.memory = workspace_of(direction, algorithm);
        const auto math = problem.convolution.math;
        result.mathType = problem.x.type == CUDNN_DATA_FLOAT && math == CUDNN_FMA_MATH ? CUDNN_FMA_MATH : CUDNN_TENSOR_OP_MATH;
    }
    return *found ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_NOT_SUPPORTED;
}

cudnnStatus_t size_workspace(const Direction& direction, const Problem& problem, int algorithm, size_t* size) {
    if (!direction.supports(problem, algorithm)) return CUDNN_STATUS_NOT_SUPPORTED;
    *size = workspace_of(direction, algorithm);
    return CUDNN_STATUS_SUCCESS;
}

template <class Compute>
cudnnStatus_t run(const Direction& direction, const Problem& problem, int algorithm, size_t workspace, Compute compute) {
    problem.record(direction.name, algorithm, workspace);
    if (!direction.supports(problem, algorithm)) return CUDNN_STATUS_NOT_SUPPORTED;
    if (workspace < workspace_of(direction, algorithm)) return CUDNN_STATUS_BAD_PARAM;
    if (machine_computes()) compute();
    return CUDNN_STATUS_SUCCESS;
}

Array& array(const void* descriptor) { return *(Array*)descriptor; }
Convolution& convolution(const void* descriptor) { return *(Convolution*)descriptor; }
template <class Object, class Descriptor>
cudnnStatus_t create(Descriptor* descriptor) {
    *descriptor = (Descriptor) new Object;
    return CUDNN_STATUS_SUCCESS;
}

}  // namespace

using T = cudnnTensorDescriptor_t;
using F = cudnnFilterDescriptor_t;
using C = cudnnConvolutionDescriptor_t;

extern "C" {

cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) { return *handle = (cudnnHandle_t)1, CUDNN_STATUS_SUCCESS; }
cudnnStatus_t cudnnDestroy(cudnnHandle_t) { return CUDNN_STATUS_SUCCESS; }
cudnnStatus_t cudnnCreateTensorDescriptor(T* descriptor) { return create<Array>(descriptor); }
cudnnStatus_t cudnnCreateFilterDescriptor(F* descriptor) { return create<Array>(descriptor); }
cudnnStatus_t cudnnCreateConvolutionDescriptor(C* descriptor) { return create<Convolution>(descriptor); }
cudnnStatus_t cudnnDestroyTensorDescriptor(T descriptor) { return delete &array(descriptor), CUDNN_STATUS_SUCCESS; }
cudnnStatus_t cudnnDestroyFilterDescriptor(F descriptor) { return delete &array(descriptor), CUDNN_STATUS_SUCCESS; }
cudnnStatus_t cudnnDestroyConvolutionDescriptor(C descriptor) {
    return delete &convolution(descriptor), CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetTensorNdDescriptor(T descriptor, cudnnDataType_t type, int dimensions, const int* sizes, const int* strides) {
    if (dimensions != 4) return CUDNN_STATUS_NOT_SUPPORTED;
    array(descriptor).type = type;
    for (int i = 0; i < 4; i++) array(descriptor).sizes[i] = sizes[i], array(descriptor).strides[i] = strides[i];
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetFilterNdDescriptor(F descriptor, cudnnDataType_t type, cudnnTensorFormat_t format, int dimensions,
                                         const int* sizes) {
    if (dimensions != 4 || format != CUDNN_TENSOR_NCHW) return CUDNN_STATUS_NOT_SUPPORTED;
    array(descriptor).type = type;
    for (int i = 3, stride = 1; i >= 0; stride *= sizes[i--])
        array(descriptor).sizes[i] = sizes[i], array(descriptor).strides[i] = stride;
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetTensorNdDescriptor(const T descriptor, int, cudnnDataType_t* type, int* dimensions, int* sizes, int* strides) {
    *type = array(descriptor).type;
    *dimensions = 4;
    for (int i = 0; i < 4; i++) sizes[i] = array(descriptor).sizes[i], strides[i] = array(descriptor).strides[i];
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetFilterNdDescriptor(const F descriptor, int, cudnnDataType_t* type, cudnnTensorFormat_t* format,
                                         int* dimensions, int* sizes) {
    *type = array(descriptor).type;
    *format = CUDNN_TENSOR_NCHW;
    *dimensions = 4;
    for (int i = 0; i < 4; i++) sizes[i] = array(descriptor).sizes[i];
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetConvolutionNdDescriptor(C descriptor, int dimensions, const int* padding, const int* stride,
                                              const int* dilation, cudnnConvolutionMode_t mode, cudnnDataType_t compute) {
    if (dimensions != 2 || mode != CUDNN_CROSS_CORRELATION) return CUDNN_STATUS_NOT_SUPPORTED;
    Convolution& c = convolution(descriptor);
    for (int i = 0; i < 2; i++) c.padding[i] = padding[i], c.stride[i] = stride[i], c.dilation[i] = dilation[i];
    c.compute = compute;
    return compute == CUDNN_DATA_BFLOAT16 ? CUDNN_STATUS_BAD_PARAM : CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetConvolutionNdDescriptor(const C descriptor, int, int* dimensions, int* padding, int* stride, int* dilation,
                                              cudnnConvolutionMode_t* mode, cudnnDataType_t* compute) {
    const Convolution& c = convolution(descriptor);
    *dimensions = 2;
    for (int i = 0; i < 2; i++) padding[i] = c.padding[i], stride[i] = c.stride[i], dilation[i] = c.dilation[i];
    *mode = CUDNN_CROSS_CORRELATION;
    *compute = c.compute;
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetConvolutionGroupCount(C descriptor, int groups) {
    return convolution(descriptor).groups = groups, CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetConvolutionGroupCount(C descriptor, int* groups) {
    return *groups = convolution(descriptor).groups, CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetConvolutionMathType(C descriptor, cudnnMathType_t math) {
    return convolution(descriptor).math = math, CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetConvolutionMathType(C descriptor, cudnnMathType_t* math) {
    return *math = convolution(descriptor).math, CUDNN_STATUS_SUCCESS;
}

#define PROBLEM Problem{array(x), array(w), array(y), convolution(c)}
cudnnStatus_t cudnnFindConvolutionForwardAlgorithmEx(cudnnHandle_t, const T x, const void*, const F w, const void*, const C c,
                                                     const T y, void*, const int wanted, int* found,
                                                     cudnnConvolutionFwdAlgoPerf_t* results, void*, size_t size) {
    return search(FORWARD, PROBLEM, wanted, found, results, size);
}
cudnnStatus_t cudnnFindConvolutionBackwardDataAlgorithmEx(cudnnHandle_t, const F w, const void*, const T y, const void*,
                                                          const C c, const T x, void*, const int wanted, int* found,
                                                          cudnnConvolutionBwdDataAlgoPerf_t* results, void*, size_t size) {
    return search(DATA, PROBLEM, wanted, found, results, size);
}
cudnnStatus_t cudnnFindConvolutionBackwardFilterAlgorithmEx(cudnnHandle_t, const T x, const void*, const T y, const void*,
                                                            const C c, const F w, void*, const int wanted, int* found,
                                                            cudnnConvolutionBwdFilterAlgoPerf_t* results, void*, size_t size) {
    return search(FILTER, PROBLEM, wanted, found, results, size);
}
cudnnStatus_t cudnnGetConvolutionForwardAlgorithm_v7(cudnnHandle_t, const T x, const F w, const C c, const T y,
                                                     const int wanted, int* found, cudnnConvolutionFwdAlgoPerf_t* results) {
    return search(FORWARD, PROBLEM, wanted, found, results, ~size_t(0));
}
cudnnStatus_t cudnnGetConvolutionBackwardDataAlgorithm_v7(cudnnHandle_t, const F w, const T y, const C c, const T x,
                                                          const int wanted, int* found,
                                                          cudnnConvolutionBwdDataAlgoPerf_t* results) {
    return search(DATA, PROBLEM, wanted, found, results, ~size_t(0));
}
cudnnStatus_t cudnnGetConvolutionBackwardFilterAlgorithm_v7(cudnnHandle_t, const T x, const T y, const C c, const F w,
                                                            const int wanted, int* found,
                                                            cudnnConvolutionBwdFilterAlgoPerf_t* results) {
    return search(FILTER, PROBLEM, wanted, found, results, ~size_t(0));
}
cudnnStatus_t cudnnGetConvolutionForwardWorkspaceSize(cudnnHandle_t, const T x, const F w, const C c, const T y,
                                                      cudnnConvolutionFwdAlgo_t algorithm, size_t* size) {
    return size_workspace(FORWARD, PROBLEM, algorithm, size);
}
cudnnStatus_t cudnnGetConvolutionBackwardDataWorkspaceSize(cudnnHandle_t, const F w, const T y, const C c, const T x,
                                                           cudnnConvolutionBwdDataAlgo_t algorithm, size_t* size) {
    return size_workspace(DATA, PROBLEM, algorithm, size);
}
cudnnStatus_t cudnnGetConvolutionBackwardFilterWorkspaceSize(cudnnHandle_t, const T x, const T y, const C c, const F w,
                                                             cudnnConvolutionBwdFilterAlgo_t algorithm, size_t* size) {
    return size_workspace(FILTER, PROBLEM, algorithm, size);
}

cudnnStatus_t cudnnConvolutionForward(cudnnHandle_t, const void*, const T x, const void* from, const F w, const void* filters,
                                      const C c, cudnnConvolutionFwdAlgo_t algorithm, void*, size_t size, const void*,
                                      const T y, void* to) {
    const Problem problem = PROBLEM;
    return run(FORWARD, problem, algorithm, size, [&] {
        const auto xs = problem.x.read(from, problem.tf32()), ws = problem.w.read(filters, problem.tf32());
        std::vector<float> ys(problem.y.count());
        problem.products([&](size_t i, size_t j, size_t k) { ys[k] += xs[i] * ws[j]; });
        problem.y.write(to, ys);
    });
}
cudnnStatus_t cudnnConvolutionBackwardData(cudnnHandle_t, const void*, const F w, const void* filters, const T y,
                                           const void* from, const C c, cudnnConvolutionBwdDataAlgo_t algorithm, void*,
                                           size_t size, const void*, const T x, void* to) {
    const Problem problem = PROBLEM;
    return run(DATA, problem, algorithm, size, [&] {
        const auto ys = problem.y.read(from, problem.tf32()), ws = problem.w.read(filters, problem.tf32());
        std::vector<float> xs(problem.x.count());
        problem.products([&](size_t i, size_t j, size_t k) { xs[i] += ys[k] * ws[j]; });
        problem.x.write(to, xs);
    });
}
cudnnStatus_t cudnnConvolutionBackwardFilter(cudnnHandle_t, const void*, const T x, const void* from, const T y,
                                             const void* slopes, const C c, cudnnConvolutionBwdFilterAlgo_t algorithm, void*,
                                             size_t size, const void*, const F w, void* to) {
    const Problem problem = PROBLEM;
    return run(FILTER, problem, algorithm, size, [&] {
        const auto xs = problem.x.read(from, problem.tf32()), ys = problem.y.read(slopes, problem.tf32());
        std::vector<float> ws(problem.w.count());
        problem.products([&](size_t i, size_t j, size_t k) { ws[j] += xs[i] * ys[k]; });
        problem.w.write(to, ws);
    });
}
#undef PROBLEM

const char* cudnnGetErrorString(cudnnStatus_t status) {
    return status == CUDNN_STATUS_SUCCESS         ? "CUDNN_STATUS_SUCCESS"
           : status == CUDNN_STATUS_NOT_SUPPORTED ? "CUDNN_STATUS_NOT_SUPPORTED"
           : status == CUDNN_STATUS_BAD_PARAM     ? "CUDNN_STATUS_BAD_PARAM"
                                                  : "CUDNN_STATUS_UNKNOWN";
}


}
