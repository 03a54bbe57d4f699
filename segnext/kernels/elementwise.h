// Activations and their gradients, element by element, float32, on the CPU and on CUDA.

namespace segnext {

struct Gelu {
    const float* x;
    float* y;

    SEGNEXT_EACH void operator()(size_t i) const { y[i] = gelu(x[i]); }
};

struct GeluGradient {
    const float *x, *dy;
    float* dx;

    SEGNEXT_EACH void operator()(size_t i) const { dx[i] = dy[i] * gelu_slope(x[i]); }
};

struct Relu {
    const float* x;
    float* y;

    SEGNEXT_EACH void operator()(size_t i) const { y[i] = x[i] > 0.f ? x[i] : 0.f; }
};

struct ReluGradient {
    const float *y, *dy;
    float* dx;

    SEGNEXT_EACH void operator()(size_t i) const {
        const float slope = dy[i];  // read in any case: else every element is a branch
        dx[i] = y[i] > 0.f ? slope : 0.f;
    }
};

struct Multiply {
    const float *x, *y;
    float* z;

    SEGNEXT_EACH void operator()(size_t i) const { z[i] = x[i] * y[i]; }
};

struct MultiplyGradient {
    const float *x, *y, *dz;
    float *dx, *dy;

    SEGNEXT_EACH void operator()(size_t i) const {
        dx[i] = dz[i] * y[i];
        dy[i] = dz[i] * x[i];
    }
};

}  // namespace segnext
