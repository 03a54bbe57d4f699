"""A residual branch added to its input, scaled per channel (layer scale) and per image (stochastic depth)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segnext.backend import Function, Var, jt
from segnext.kernels.elementwise import add
from segnext.kernels.sums import PLANES_CUDA

__all__ = ["add_scaled", "add_scaled_reference"]

_CPU_HEADER = Path(__file__).with_name("residual_cpu.h").read_text(encoding="utf-8")
_CUDA_HEADER = PLANES_CUDA + Path(__file__).with_name("residual_cuda.h").read_text(encoding="utf-8")
_SHAPE = """
const segnext::Residual shape{(int)in0_shape0, (int)in0_shape1, (int)(in0_shape2 * in0_shape3)};
const float* keep = in3_p + (int64)data["row"] * in3_shape1;
"""
# SHORTCUT: on the CPU, that or null; on CUDA, it is added before. SUMS: on CUDA, a figure of each plane.
_FORWARD = _SHAPE + "segnext::add_scaled(in0_p, in1_p, SHORTCUT in2_p, keep, out0_p, shape);\n"
_GRADIENT = _SHAPE + "segnext::add_scaled_gradient(in0_p, in1_p, SHORTCUT in2_p, keep, out0_p, out1_p, SUMS shape);\n"


def add_scaled(x: Var, branch: Var, scale: Var, keep: Var, *, row: int, shortcut: Var | None = None) -> Var:
    """x + (branch + shortcut)·scale·keep[row].

    Args:
        x, branch, shortcut: (B,C,H,W) float32; without a shortcut, the branch alone.
        scale: (C,).
        keep: (branches, B) float32, the factors of all images in all branches of the network, of which ``row`` is this
            one's; they get no gradient.

    Returns:
        (B,C,H,W) float32.
    """
    if jt.flags.use_cuda and shortcut is not None:
        branch, shortcut = add(branch, shortcut), None
    return _AddScaled(row)(x, branch, scale, keep, *([] if shortcut is None else [shortcut]))


def add_scaled_reference(x: Var, branch: Var, scale: Var, keep: Var, *, row: int, shortcut: Var | None = None) -> Var:
    """The same in plain Jittor: what the kernels are tested against."""
    if shortcut is not None:
        branch = branch + shortcut
    return x + branch * scale.broadcast(x, [0, 2, 3]) * keep[row].broadcast(x, [1, 2, 3])


class _AddScaled(Function):
    def __init__(self, row: int) -> None:
        super().__init__()
        self.data = {"row": row}

    def execute(self, x: Var, branch: Var, scale: Var, keep: Var, *shortcut: Var) -> Var:
        self.saved = branch, scale, keep, *shortcut
        return self._code([x.shape], [x, *self.saved], _FORWARD)[0]

    def grad(self, dy: Var) -> tuple[Var | None, ...]:
        branch, scale, _, *shortcut = self.saved
        sums = [[branch.shape[0] * branch.shape[1]]] if jt.flags.use_cuda else []
        dbranch, dscale, *_ = self._code([branch.shape, scale.shape, *sums], [dy, *self.saved], _GRADIENT)
        return dy, dbranch, dscale, None, *([dbranch] if shortcut else [])

    def _code(self, shapes: list[Sequence[int]], inputs: list[Var], source: str) -> list[Var]:
        if jt.flags.use_cuda:
            source = source.replace("SHORTCUT", "").replace("SUMS", "out2_p,")
            code = {"cuda_header": _CUDA_HEADER, "cuda_src": source}
        else:
            source = source.replace("SHORTCUT", "in4_p," if len(inputs) > 4 else "nullptr,").replace("SUMS", "")
            code = {"cpu_header": _CPU_HEADER, "cpu_src": source}
        return list(jt.code(shapes, ["float32"] * len(shapes), inputs, data=self.data, **code))
