// Non-negative matrix factorisation on the CPU and on CUDA, float32: what is computed, and where it lies.
//
// An image is X (D,N); its bases U are kept as (R,D) and its coefficients C as (R,N), so that both updates are the same
// function and every product has few rows and long columns:
//     F <- F * (G X) / (G G' F + 1e-6),    F, G = C, U for X and F, G = U, C for X'.
#pragma once
#include <cstddef>

namespace segnext {

struct Factors {
    int dim, pixels, rank, steps;  // steps: of both updates; one more of the coefficients follows

    size_t bases() const { return (size_t)rank * dim; }
    size_t coefficients() const { return (size_t)rank * pixels; }
};

// One update of F (R,n) by G (R,m), as it was taken: F afterwards is F * ratio, and inverse is 1 / (denominator + 1e-6).
struct Update {
    const float *before, *by;
    float *after, *ratio, *inverse;
};

// Everything that a factorisation of an image computes: bases, then coefficients, of all steps one after the other, then the
// ratios and inverses of both. Without `keeps`, as for a prediction, the last two of each alone.
class Trace {
  public:
    Trace(const Factors& s, float* memory, bool keeps) : s(s), memory(memory), keeps(keeps) {}

    size_t size() const {
        return values() + updates_of_bases() * 2 * s.bases() + updates_of_coefficients() * 2 * s.coefficients();
    }
    float* bases(int step) const { return memory + place(step) * s.bases(); }
    float* coefficients(int step) const { return memory + bases_kept() * s.bases() + place(step) * s.coefficients(); }

    // Step k takes coefficients k to k + 1 by bases k, then bases k to k + 1 by coefficients k + 1.
    Update of_bases(int k) const {
        float* ratio = memory + values() + (keeps ? 2 * k : 0) * s.bases();
        return {bases(k), coefficients(k + 1), bases(k + 1), ratio, ratio + s.bases()};
    }
    Update of_coefficients(int k) const {
        float* ratio = memory + values() + updates_of_bases() * 2 * s.bases() + (keeps ? 2 * k : 0) * s.coefficients();
        return {coefficients(k), bases(k), coefficients(k + 1), ratio, ratio + s.coefficients()};
    }

  private:
    const Factors s;
    float* memory;
    bool keeps;

    size_t place(int step) const { return keeps ? step : step % 2; }
    size_t bases_kept() const { return keeps ? s.steps + 1 : 2; }
    size_t updates_of_bases() const { return keeps ? s.steps : 1; }
    size_t updates_of_coefficients() const { return keeps ? s.steps + 1 : 1; }
    size_t values() const { return bases_kept() * s.bases() + (keeps ? s.steps + 2 : 2) * s.coefficients(); }
};

}  // namespace segnext
