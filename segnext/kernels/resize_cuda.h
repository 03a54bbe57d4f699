// Bilinear resize and the cross-entropy of enlarged logits on CUDA: a thread for each element of a result.
//
// Gradients are gathered from all outputs that read an input, first down the columns, then along the rows: no atomics,
// the same bits every time. Tests run the threads by loops on the CPU.

namespace segnext {

constexpr int IGNORED = 255;  // as IGNORE in cross_entropy.py

// The value of an enlarged plane.
template <class T>
SEGNEXT_EACH float value(const T* plane, int width, const Sample& row, const Sample& column) {
    const T *low = plane + (size_t)row.low * width, *high = plane + (size_t)row.high * width;
    const float above = (1.f - column.weight) * (float)low[column.low] + column.weight * (float)low[column.high];
    const float below = (1.f - column.weight) * (float)high[column.low] + column.weight * (float)high[column.high];
    return (1.f - row.weight) * above + row.weight * below;
}

// y (planes, outputs)
template <class T>
struct Enlarge {
    const T* x;
    T* y;
    Resize s;

    SEGNEXT_EACH void operator()(size_t i) const {
        const int h = i / s.columns.to % s.rows.to, w = i % s.columns.to;
        y[i] = (T)value(x + i / s.outputs() * s.inputs(), s.columns.from, s.rows.at(h), s.columns.at(w));
    }
};

// strips (planes, rows of the input, columns of the output) from dy
template <class T>
struct GatherRows {
    const T* dy;
    float* strips;
    Resize s;

    SEGNEXT_EACH void operator()(size_t i) const {
        const int h = i / s.columns.to % s.rows.from, w = i % s.columns.to;
        const T* plane = dy + i / s.columns.to / s.rows.from * s.outputs();
        float sum = 0.f;
        for (int o = s.rows.first(h); o <= s.rows.last(h); o++)
            sum += s.rows.at(o).of(h) * (float)plane[(size_t)o * s.columns.to + w];
        strips[i] = sum;
    }
};

// dx (planes, inputs) from strips
template <class T>
struct GatherColumns {
    const float* strips;
    T* dx;
    Resize s;

    SEGNEXT_EACH void operator()(size_t i) const {
        const int w = i % s.columns.from;
        const float* strip = strips + i / s.columns.from * s.columns.to;
        float sum = 0.f;
        for (int o = s.columns.first(w); o <= s.columns.last(w); o++) sum += s.columns.at(o).of(w) * strip[o];
        dx[i] = (T)sum;
    }
};

// losses and normalisers (batch, outputs)
struct CrossEntropy {
    const float* logits;
    const int* labels;
    float *losses, *normalisers;
    int classes;
    Resize s;

    SEGNEXT_EACH void operator()(size_t i) const {
        const Sample row = s.rows.at(i / s.columns.to % s.rows.to), column = s.columns.at(i % s.columns.to);
        const float* image = logits + i / s.outputs() * classes * s.inputs();
        float highest = -INFINITY, total = 0.f, of_label = NAN;  // NaN: a label that is no class
        for (int k = 0; k < classes; k++) {
            const float logit = value(image + (size_t)k * s.inputs(), s.columns.from, row, column);
            if (k == labels[i]) of_label = logit;
            if (logit > highest) {
                total = total * expf(highest - logit) + 1.f;
                highest = logit;
            } else {
                total += expf(logit - highest);
            }
        }
        normalisers[i] = highest + logf(total);
        losses[i] = labels[i] == IGNORED ? 0.f : logf(total) - (of_label - highest);
    }
};

// strips (classes, rows of the input, columns of the output) of one image, from the slopes of its logits
struct GatherSlopes {
    const float* logits;
    const int* labels;
    const float *normalisers, *dlosses;
    float* strips;
    Resize s;

    SEGNEXT_EACH void operator()(size_t i) const {
        const int w = i % s.columns.to, h = i / s.columns.to % s.rows.from, k = i / s.columns.to / s.rows.from;
        const Sample column = s.columns.at(w);
        float sum = 0.f;
        for (int o = s.rows.first(h); o <= s.rows.last(h); o++) {
            const size_t pixel = (size_t)o * s.columns.to + w;
            const Sample row = s.rows.at(o);
            const float weight = labels[pixel] == IGNORED ? 0.f : row.of(h);
            if (weight == 0.f) continue;
            const float logit = value(logits + (size_t)k * s.inputs(), s.columns.from, row, column);
            sum += weight * dlosses[pixel] * (expf(logit - normalisers[pixel]) - (labels[pixel] == k ? 1.f : 0.f));
        }
        strips[i] = sum;
    }
};

template <class T>
void resize(const T* x, T* y, int planes, const Resize& s) {
    launch(Enlarge<T>{x, y, s}, (size_t)planes * s.outputs());
}

template <class T>
void resize_gradient(const T* dy, float* strips, T* dx, int planes, const Resize& s) {
    launch(GatherRows<T>{dy, strips, s}, (size_t)planes * s.rows.from * s.columns.to);
    launch(GatherColumns<T>{strips, dx, s}, (size_t)planes * s.inputs());
}

inline void cross_entropy(const float* logits, const int* labels, float* losses, float* normalisers, int batch,
                          int classes, const Resize& s) {
    launch(CrossEntropy{logits, labels, losses, normalisers, classes, s}, (size_t)batch * s.outputs());
}

// One image after another, so that the strips are those of one.
inline void cross_entropy_gradient(const float* logits, const int* labels, const float* normalisers,
                                   const float* dlosses, float* strips, float* dlogits, int batch, int classes,
                                   const Resize& s) {
    for (int n = 0; n < batch; n++) {
        const size_t map = (size_t)n * classes * s.inputs(), pixels = (size_t)n * s.outputs();
        const GatherSlopes slopes{logits + map, labels + pixels, normalisers + pixels, dlosses + pixels, strips, s};
        launch(slopes, (size_t)classes * s.rows.from * s.columns.to);
        launch(GatherColumns<float>{strips, dlogits + map, s}, (size_t)classes * s.inputs());
    }
}

}  // namespace segnext
