// Depthwise 3×3 convolution, GELU and 1×1 convolution on the CPU.

namespace segnext {

// y = gelu(x * kernels + kernel_biases), z = weights · y + biases
inline void mix(const float* x, const float* kernels, const float* kernel_biases, const float* weights,
                const float* biases, float* y, float* z, const Maps& maps, const Convolution& shape) {
    convolve<3, 3>(x, kernels, kernel_biases, y, maps, true);
    convolve(y, weights, biases, z, shape);
}

// `y` is room: for its own gradient first, for y itself, which was not kept, then.
inline void mix_gradient(const float* x, const float* dz, const float* kernels, const float* kernel_biases,
                         const float* weights, float* dx, float* dkernels, float* dkernel_biases, float* dweights,
                         float* dbiases, float* y, const Maps& maps, const Convolution& shape) {
    input_gradient(dz, weights, y, shape);
    convolve_gradient<3, 3>(x, y, kernels, kernel_biases, dx, dkernels, dkernel_biases, maps, y);
    weight_gradient(y, dz, dweights, dbiases, shape);
}

}  // namespace segnext
