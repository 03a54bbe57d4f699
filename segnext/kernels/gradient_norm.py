"""The L2 norm of many arrays together, one after the other: their sums in plain operators differ in every shape."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from segnext.backend import Var, jt
from segnext.kernels.sums import square_sum

__all__ = ["gradient_norm", "gradient_norm_reference"]

_HEADER = "#include <algorithm>\n#include <cmath>\n#include <vector>"
# In runs, each by one thread: the same bits for any number of threads.
_SOURCE = """
const int64 run = 4096, runs = (in1->num + run - 1) / run;
std::vector<double> parts(runs);
#pragma omp parallel for if (runs > 16)
for (int64 i = 0; i < runs; i++) {
    const int64 last = std::min(in1->num, (i + 1) * run);
    float part = 0;
    #pragma omp simd reduction(+ : part)
    for (int64 j = i * run; j < last; j++) part += in1_p[j] * in1_p[j];
    parts[i] = part;
}
double total = 0;
for (double part : parts) total += part;
out0_p[0] = std::sqrt((double)in0_p[0] * in0_p[0] + total);
"""


def gradient_norm(gradients: Iterable[Var]) -> Var:
    """√Σx² over the elements of all ``gradients`` (float32, of any shapes), shape (1,)."""
    if jt.flags.use_cuda:
        return jt.sqrt(sum(square_sum(gradient) for gradient in gradients))
    norm = jt.array(np.zeros(1, np.float32))
    for gradient in gradients:
        norm = jt.code([1], "float32", [norm, gradient], cpu_header=_HEADER, cpu_src=_SOURCE)
    return norm


def gradient_norm_reference(gradients: Iterable[Var]) -> Var:
    """The same in plain Jittor: what the kernel is tested against."""
    return jt.sqrt(sum((gradient * gradient).sum() for gradient in gradients))
