"""The L2 norm of many arrays together, one after the other: their sums in plain operators differ in every shape."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from segnext.backend import Var, jt
from segnext.kernels.sums import square_sum

__all__ = ["gradient_norm", "gradient_norm_reference"]

TOGETHER = 32  # gradients of an operator

# In runs, each by one thread: the same bits for any number of threads.
_HEADER = """
#include <algorithm>
#include <cmath>
#include <vector>
namespace segnext {
static double square_sum(const float* x, long long count) {
    const long long run = 4096, runs = (count + run - 1) / run;
    std::vector<double> parts(runs);
    #pragma omp parallel for if (runs > 16)
    for (long long i = 0; i < runs; i++) {
        const long long last = std::min(count, (i + 1) * run);
        float part = 0;
        #pragma omp simd reduction(+ : part)
        for (long long j = i * run; j < last; j++) part += x[j] * x[j];
        parts[i] = part;
    }
    double total = 0;
    for (double part : parts) total += part;
    return total;
}
}
"""


def gradient_norm(gradients: Iterable[Var]) -> Var:
    """√Σx² over the elements of all ``gradients`` (float32, of any shapes), shape (1,)."""
    if jt.flags.use_cuda:
        return jt.sqrt(sum(square_sum(gradient) for gradient in gradients))
    of_rank: defaultdict[int, list[Var]] = defaultdict(list)  # an operator is compiled for the ranks of its arrays
    for gradient in gradients:
        of_rank[gradient.ndim].append(gradient)
    norm = jt.array(np.zeros(1, np.float32))
    for same in of_rank.values():
        for first in range(0, len(same), TOGETHER):
            norm = _add(norm, same[first : first + TOGETHER])
    return norm


def _add(norm: Var, gradients: Sequence[Var]) -> Var:
    sums = "".join(f"total += segnext::square_sum(in{i}_p, in{i}->num);" for i in range(1, len(gradients) + 1))
    source = f"double total = (double)in0_p[0] * in0_p[0]; {sums} out0_p[0] = std::sqrt(total);"
    return jt.code([1], "float32", [norm, *gradients], cpu_header=_HEADER, cpu_src=source)


def gradient_norm_reference(gradients: Iterable[Var]) -> Var:
    """The same in plain Jittor: what the kernel is tested against."""
    return jt.sqrt(sum((gradient * gradient).sum() for gradient in gradients))
