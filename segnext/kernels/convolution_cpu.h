// Convolution on the CPU as matrix products: float32, square strides and padding, no dilation, no groups.
//
// The products read the pixels where they are: the inner dimension runs over channels and taps, the columns over the
// pixels of all images. Only a map that a kernel reaches out of is copied, into a zero-bordered one.
#include <vector>

namespace segnext {

struct Convolution {
    int batch, channels_in, height, width, channels, kh, kw, out_height, out_width, stride, padding;

    int pixels() const { return out_height * out_width; }
    int taps() const { return channels_in * kh * kw; }
    Axis pixels_of(int maps) const { return Axis((ptrdiff_t)maps * pixels(), 1, pixels(), pixels(), 1); }
};

// Planes with a border of zeros; without a border, the planes themselves.
class Bordered {
  public:
    const float* data;
    int height, width;
    ptrdiff_t plane;

    Bordered(const float* planes, int count, int height_, int width_, int border)
        : data(planes), height(height_ + 2 * border), width(width_ + 2 * border), plane((ptrdiff_t)height * width) {
        if (border == 0) return;
        copy.resize((size_t)count * plane);
        data = copy.data();
#pragma omp parallel for
        for (int row = 0; row < count * height_; row++)
            std::memcpy(&copy[row / height_ * plane + (ptrdiff_t)(row % height_ + border) * width + border],
                        planes + (size_t)row * width_, width_ * sizeof(float));
    }
    Bordered(const Bordered&) = delete;

  private:
    std::vector<float> copy;
};

// The (channel, tap) dimension and the pixels of the outputs, in the input.
struct Windows {
    Axis taps, pixels;

    Windows(const Convolution& s, const Bordered& x)
        : taps(x.plane, s.kh, x.width, s.kw, 1),
          pixels(s.channels_in * x.plane, s.out_height, (ptrdiff_t)s.stride * x.width, s.out_width, s.stride) {}
};

inline void convolve(const float* x, const float* weights, const float* bias, float* y, const Convolution& s) {
    const Bordered bordered(x, s.batch * s.channels_in, s.height, s.width, s.padding);
    const Windows windows(s, bordered);
    multiply(s.channels, s.taps(), s.batch * s.pixels(), {weights, Axis(s.taps()), Axis(1)},
             {bordered.data, windows.taps, windows.pixels}, {y, s.pixels(), s.pixels_of(s.channels)}, bias);
}

// The gradient with respect to the weights, and to the bias where there is one.
inline void weight_gradient(const float* x, const float* dy, float* dweights, float* dbias, const Convolution& s) {
    const Bordered bordered(x, s.batch * s.channels_in, s.height, s.width, s.padding);
    const Windows windows(s, bordered);
    multiply(s.channels, s.batch * s.pixels(), s.taps(), {dy, Axis(s.pixels()), s.pixels_of(s.channels)},
             {bordered.data, windows.pixels, windows.taps}, {dweights, s.taps(), Axis(1)});
    if (!dbias) return;
#pragma omp parallel for
    for (int c = 0; c < s.channels; c++) {
        float sum = 0;
        for (int n = 0; n < s.batch; n++) {
            const float* plane = dy + ((size_t)n * s.channels + c) * s.pixels();
            float part = 0;
            for (int p = 0; p < s.pixels(); p++) part += plane[p];
            sum += part;
        }
        dbias[c] = sum;
    }
}

// Along one dimension, the input pixels first, first + stride, ... : which taps reach them, and from which outputs.
struct Phase {
    int first, count, last_tap, taps, output;  // output: of the first pixel and the last tap, the earliest of all

    Phase(int first, int size, int kernel, const Convolution& s)
        : first(first), count(size > first ? (size - first - 1) / s.stride + 1 : 0) {
        const int tap = (first + s.padding) % s.stride;
        taps = kernel > tap ? (kernel - tap - 1) / s.stride + 1 : 0;
        last_tap = tap + (taps - 1) * s.stride;
        output = (first + s.padding - tap) / s.stride - (taps - 1);
    }
};

// The gradient with respect to the input: a product for each phase of the stride, which share no pixel.
inline void input_gradient(const float* dy, const float* weights, float* dx, const Convolution& s) {
    const int border = s.kh * s.kw == 1 && s.stride == 1 ? 0 : std::max(s.kh, s.kw);
    const Bordered bordered(dy, s.batch * s.channels, s.out_height, s.out_width, border);
    const ptrdiff_t plane = (ptrdiff_t)s.height * s.width;
    if (s.stride > std::min(s.kh, s.kw)) std::memset(dx, 0, s.batch * s.channels_in * plane * sizeof(float));
    for (int top = 0; top < s.stride; top++)
        for (int left = 0; left < s.stride; left++) {
            const Phase v(top, s.height, s.kh, s), h(left, s.width, s.kw, s);
            if (v.taps == 0 || h.taps == 0 || v.count == 0 || h.count == 0) continue;
            const Axis taps(s.taps(), v.taps, -s.stride * s.kw, h.taps, -s.stride);
            const Axis windows(bordered.plane, v.taps, bordered.width, h.taps, 1);
            const Axis from(s.channels * bordered.plane, v.count, bordered.width, h.count, 1);
            const Axis to(s.channels_in * plane, v.count, (ptrdiff_t)s.stride * s.width, h.count, s.stride);
            const float* outputs = bordered.data + (ptrdiff_t)(v.output + border) * bordered.width + h.output + border;
            multiply(s.channels_in, s.channels * v.taps * h.taps, s.batch * v.count * h.count,
                     {weights + v.last_tap * s.kw + h.last_tap, Axis(s.kh * s.kw), taps}, {outputs, windows, from},
                     {dx + (ptrdiff_t)top * s.width + left, plane, to});
        }
}

}  // namespace segnext
