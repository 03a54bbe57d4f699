// The factorisation of nmf.h on CUDA: all images at a time, products by cuBLAS and a kernel for what lies between them. Where
// an image has pieces of a trace, those of the next one lie a whole trace further. product_cuda.h, each.h, parts_cuda.h and
// nmf.h come first.
#include <cmath>

namespace segnext {

// (R,n) of every image, `stride` apart.
template <class T>
struct Pieces {
    T* first;
    size_t stride;

    SEGNEXT_EACH T& at(size_t i, size_t size) const { return first[i / size * stride + i % size]; }
};

// The transposes (R,D) of (D,R).
struct Turn {
    const float* bases;
    Pieces<float> turned;
    int dim, rank;

    SEGNEXT_EACH void operator()(size_t i) const {
        const size_t size = (size_t)dim * rank, at = i % size;
        turned.at(i, size) = bases[i / size * size + at % dim * rank + at / dim];
    }
};

// After the products an update's ratio holds the numerator and inverse the denominator.
struct Advance {
    Update u;
    size_t stride, size;

    SEGNEXT_EACH void operator()(size_t i) const {
        const size_t at = i / size * stride + i % size;
        const float inverse = 1.f / (u.inverse[at] + 1e-6f), ratio = u.ratio[at] * inverse;
        u.inverse[at] = inverse;
        u.ratio[at] = ratio;
        u.after[at] = u.before[at] * ratio;
    }
};

// From df, the gradient of F afterwards: those of numerator and denominator, and in its place that of F before through the
// product with the ratio.
struct Retreat {
    Update u;
    size_t stride, size;
    float *df, *ddenominator;
    Pieces<float> dnumerator;

    SEGNEXT_EACH void operator()(size_t i) const {
        const size_t at = i / size * stride + i % size;
        dnumerator.at(i, size) = df[i] * u.before[at] * u.inverse[at];
        ddenominator[i] = -df[i] * u.after[at] * u.inverse[at];
        df[i] *= u.ratio[at];
    }
};

// Over the R coefficients of each pixel, in their place.
struct Softmax {
    Pieces<float> coefficients;
    int rank, pixels;

    SEGNEXT_EACH void operator()(size_t i) const {
        float* c = coefficients.first + i / pixels * coefficients.stride + i % pixels;
        float highest = c[0], total = 0.f;
        for (int r = 1; r < rank; r++) highest = c[(size_t)r * pixels] > highest ? c[(size_t)r * pixels] : highest;
        for (int r = 0; r < rank; r++) total += c[(size_t)r * pixels] = expf(c[(size_t)r * pixels] - highest);
        for (int r = 0; r < rank; r++) c[(size_t)r * pixels] /= total;
    }
};

// Adds the gradient of what the softmax was taken of to `sum`.
struct SoftmaxGradient {
    Pieces<const float> coefficients;
    const float* dcoefficients;
    Pieces<float> sum;
    int rank, pixels;

    SEGNEXT_EACH void operator()(size_t i) const {
        const size_t image = i / pixels, pixel = i % pixels;
        const float* c = coefficients.first + image * coefficients.stride + pixel;
        const float* dc = dcoefficients + image * rank * pixels + pixel;
        float* to = sum.first + image * sum.stride + pixel;
        float mean = 0.f;
        for (int r = 0; r < rank; r++) mean += c[(size_t)r * pixels] * dc[(size_t)r * pixels];
        for (int r = 0; r < rank; r++) to[(size_t)r * pixels] += c[(size_t)r * pixels] * (dc[(size_t)r * pixels] - mean);
    }
};

// Rows of `length` of a matrix of every image, or their transpose.
struct Rows {
    const float* data;
    int length;
    size_t stride;
    bool turned;

    Rows transposed() const { return {data, length, stride, !turned}; }
    Matrices<const float> columns() const { return {data, length, (long long)stride, turned}; }
};

class Factorisation {
  public:
    // `memory` holds a trace of each image, `scratch` as many floats as nmf.py says.
    Factorisation(const float* x, int batch, const Factors& s, float* memory, float* scratch, bool keeps)
        : s(s), batch(batch), trace(s, memory, keeps), map{x, s.pixels, (size_t)s.dim * s.pixels, false}, gram(scratch) {}

    void forward(const float* bases, float* y) const {
        launch(Turn{bases, {trace.bases(0), trace.size()}, s.dim, s.rank}, batch * s.bases());
        product(s.rank, s.dim, s.pixels, bases_at(0), map, {trace.coefficients(0), trace.size()});
        launch(Softmax{{trace.coefficients(0), trace.size()}, s.rank, s.pixels}, (size_t)batch * s.pixels);
        for (int k = 0; k <= s.steps; k++) {
            advance(trace.of_coefficients(k), s.pixels, s.dim, map);
            if (k < s.steps) advance(trace.of_bases(k), s.dim, s.pixels, map.transposed());
        }
        product(s.dim, s.rank, s.pixels, bases_at(s.steps).transposed(), coefficients_at(s.steps + 1), {y, map.stride});
    }

    // dx through all updates, or through the last one alone (`full` false).
    void gradient(const float* dy, float* dx, bool full) const {
        const int d = s.dim, n = s.pixels, r = s.rank;
        const Rows slopes{dy, n, map.stride, false};
        const size_t through_coefficients = (full ? s.steps + 1 : 1) * s.coefficients(), through_bases = s.steps * s.bases();
        Room room{gram + 2 * batch * square()};
        float *dcoefficients = room.take(batch * s.coefficients()), *dbases = room.take(batch * s.bases());
        float* ddenominator = room.take(batch * (s.coefficients() > s.bases() ? s.coefficients() : s.bases()));
        // Gradients of the numerators of all updates of the coefficients, and of all of the bases: each is multiplied with the
        // other's values at once.
        float *left = room.take(batch * through_coefficients), *right = room.take(batch * through_bases);
        product(r, d, n, bases_at(s.steps), slopes, {dcoefficients, s.coefficients()});
        if (!full) {
            retreat(trace.of_coefficients(s.steps), n, dcoefficients, ddenominator, {left, through_coefficients});
            const Rows dnumerators{left, n, through_coefficients, false};
            product(d, r, n, bases_at(s.steps).transposed(), dnumerators, {dx, map.stride});
            return;
        }
        product(r, n, d, coefficients_at(s.steps + 1), slopes.transposed(), {dbases, s.bases()});
        for (int k = s.steps; k >= 0; k--) {
            const Pieces<float> dnumerator{left + k * s.coefficients(), through_coefficients};
            retreat(trace.of_coefficients(k), n, dcoefficients, ddenominator, dnumerator);
            pass_on(trace.of_coefficients(k), n, d, map, dcoefficients, k > 0 ? dbases : nullptr, ddenominator, dnumerator);
            if (k == 0) continue;
            const Pieces<float> turned{right + (k - 1) * s.bases(), through_bases};
            retreat(trace.of_bases(k - 1), d, dbases, ddenominator, turned);
            pass_on(trace.of_bases(k - 1), d, n, map.transposed(), dbases, dcoefficients, ddenominator, turned);
        }
        launch(SoftmaxGradient{{trace.coefficients(0), trace.size()}, dcoefficients, {left, through_coefficients}, r, n},
               (size_t)batch * n);
        product(d, (s.steps + 1) * r, n, bases_at(0).transposed(), {left, n, through_coefficients, false}, {dx, map.stride});
        if (s.steps == 0) return;
        const Rows dnumerators{right, d, through_bases, false};
        product(d, s.steps * r, n, dnumerators.transposed(), coefficients_at(1), {dx, map.stride}, true);
    }

  private:
    const Factors s;
    const int batch;
    const Trace trace;
    const Rows map;
    float* const gram;

    Rows bases_at(int k) const { return {trace.bases(k), s.dim, trace.size(), false}; }
    Rows coefficients_at(int k) const { return {trace.coefficients(k), s.pixels, trace.size(), false}; }
    size_t square() const { return (size_t)s.rank * s.rank; }

    // to (rows, columns) = left (rows, inner) · right (inner, columns) of every image, or plus what is there.
    void product(int rows, int inner, int columns, const Rows& left, const Rows& right, const Pieces<float>& to,
                 bool add = false) const {
        const Matrices<float> result{to.first, columns, (long long)to.stride, false};
        multiply(batch, columns, rows, inner, right.columns(), left.columns(), result, add, false);
    }

    // x is (m,n): n figures in a row of F, m in one of G.
    void advance(const Update& u, int n, int m, const Rows& x) const {
        const Rows by{u.by, m, trace.size(), false}, before{u.before, n, trace.size(), false};
        product(s.rank, m, s.rank, by, by.transposed(), {gram, square()});
        product(s.rank, m, n, by, x, {u.ratio, trace.size()});
        product(s.rank, s.rank, n, {gram, s.rank, square(), false}, before, {u.inverse, trace.size()});
        launch(Advance{u, trace.size(), (size_t)s.rank * n}, (size_t)batch * s.rank * n);
    }

    void retreat(const Update& u, int n, float* df, float* ddenominator, const Pieces<float>& dnumerator) const {
        const size_t size = (size_t)s.rank * n;
        launch(Retreat{u, trace.size(), size, df, ddenominator, dnumerator}, batch * size);
    }

    // What comes to F before through the denominator, and to G, where that is wanted, through both.
    void pass_on(const Update& u, int n, int m, const Rows& x, float* df, float* dg, const float* ddenominator,
                 const Pieces<float>& dnumerator) const {
        const size_t size = (size_t)s.rank * n;
        const Rows by{u.by, m, trace.size(), false}, before{u.before, n, trace.size(), false};
        const Rows slopes{ddenominator, n, size, false};
        product(s.rank, m, s.rank, by, by.transposed(), {gram, square()});
        product(s.rank, s.rank, n, {gram, s.rank, square(), false}, slopes, {df, size}, true);
        if (!dg) return;
        const Rows dgram{gram + batch * square(), s.rank, square(), false};
        const Pieces<float> to{dg, (size_t)s.rank * m};
        product(s.rank, n, s.rank, slopes, before.transposed(), {gram + batch * square(), square()});
        product(s.rank, s.rank, m, dgram, by, to, true);
        product(s.rank, s.rank, m, dgram.transposed(), by, to, true);
        product(s.rank, n, m, {dnumerator.first, n, dnumerator.stride, false}, x.transposed(), to, true);
    }
};

}  // namespace segnext
