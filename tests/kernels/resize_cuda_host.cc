// Runs the threads of the CUDA kernels one after another on the CPU, in either order: none may depend on another.
#define SEGNEXT_OWN_LAUNCH
#include "each.h"

namespace segnext {

static bool backwards = false;

template <class Element>
void launch(const Element& element, size_t count) {
    for (size_t i = 0; i < count; i++) element(backwards ? count - 1 - i : i);
}

}  // namespace segnext

#include "bilinear.h"
#include "resize_cuda.h"

extern "C" void run_resize(const float* x, const float* dy, float* y, float* strips, float* dx, const int* sizes,
                           bool backwards) {
    segnext::backwards = backwards;
    const segnext::Resize shape{{sizes[1], sizes[3]}, {sizes[2], sizes[4]}};
    segnext::resize(x, y, sizes[0], shape);
    segnext::resize_gradient(dy, strips, dx, sizes[0], shape);
}

extern "C" void run_loss(const float* logits, const int* labels, const float* dlosses, float* losses,
                         float* normalisers, float* strips, float* dlogits, const int* sizes, bool backwards) {
    segnext::backwards = backwards;
    const segnext::Resize shape{{sizes[2], sizes[4]}, {sizes[3], sizes[5]}};
    segnext::cross_entropy(logits, labels, losses, normalisers, sizes[0], sizes[1], shape);
    segnext::cross_entropy_gradient(logits, labels, normalisers, dlosses, strips, dlogits, sizes[0], sizes[1], shape);
}
