"""The L2 norm of many arrays together, one after the other: their sums in plain operators differ in every shape."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from segnext.backend import Var, jt
from segnext.kernels.sums import PLANES_CUDA

__all__ = ["gradient_norm", "gradient_norm_reference"]

TOGETHER = 32  # gradients of an operator
_PARTS = 64  # of an array, on CUDA: blocks that add up its squares

_CPU_HEADER = Path(__file__).with_name("gradient_norm_cpu.h").read_text(encoding="utf-8")
_CUDA_HEADER = PLANES_CUDA + Path(__file__).with_name("gradient_norm_cuda.h").read_text(encoding="utf-8")
_SOURCE = f"""
const float* const arrays[] = {{{", ".join(f"in{i}_p" for i in range(1, TOGETHER + 1))}}};
const size_t counts[] = {{{", ".join(f"(size_t)in{i}->num" for i in range(1, TOGETHER + 1))}}};
segnext::add_to_norm(in0_p, arrays, counts, (int)data["arrays"], RESULTS);
"""


def gradient_norm(gradients: Iterable[Var]) -> Var:
    """√Σx² over the elements of all ``gradients`` (float32, of any shapes), shape (1,)."""
    of_rank: defaultdict[int, list[Var]] = defaultdict(list)  # an operator is compiled for the ranks of its arrays
    for gradient in gradients:
        of_rank[gradient.ndim].append(gradient)
    norm = jt.zeros(1)
    for same in of_rank.values():
        for first in range(0, len(same), TOGETHER):
            norm = _add(norm, same[first : first + TOGETHER])
    return norm


def _add(norm: Var, gradients: Sequence[Var]) -> Var:
    inputs = [norm, *gradients, *[gradients[0]] * (TOGETHER - len(gradients))]
    data = {"arrays": len(gradients)}
    if not jt.flags.use_cuda:
        source = _SOURCE.replace("RESULTS", "out0_p")
        return jt.code([1], "float32", inputs, cpu_header=_CPU_HEADER, cpu_src=source, data=data)
    source, shapes = _SOURCE.replace("RESULTS", "out0_p, out1_p, (int)out1_shape1"), [[1], [len(gradients), _PARTS]]
    return jt.code(shapes, ["float32"] * 2, inputs, cuda_header=_CUDA_HEADER, cuda_src=source, data=data)[0]


def gradient_norm_reference(gradients: Iterable[Var]) -> Var:
    """The same in plain Jittor: what the kernel is tested against."""
    return jt.sqrt(sum((gradient * gradient).sum() for gradient in gradients))
