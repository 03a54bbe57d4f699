"""A residual branch added to its input, scaled per channel (layer scale) and per image (stochastic depth)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segnext.backend import Function, Var, jt
from segnext.kernels.cast import cast
from segnext.kernels.sums import PLANES_CUDA

__all__ = ["add_scaled", "add_scaled_reference"]

_CPU_HEADER = Path(__file__).with_name("residual_cpu.h").read_text(encoding="utf-8")
_CUDA_HEADER = PLANES_CUDA + "".join(
    Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("parts_cuda.h", "residual_cuda.h")
)
_SHAPE = """
const segnext::Residual shape{(int)in0_shape0, (int)in0_shape1, (int)(in0_shape2 * in0_shape3)};
const float* keep = in3_p + (int64)data["row"] * in3_shape1;
"""
_FORWARD_CPU = _SHAPE + "segnext::add_scaled(in0_p, in1_p, SHORTCUT, in2_p, keep, out0_p, shape);\n"
_GRADIENT_CPU = _SHAPE + "segnext::add_scaled_gradient(in0_p, in1_p, SHORTCUT, in2_p, keep, out0_p, out1_p, shape);\n"
_BRANCH = _SHAPE + "const segnext::Branch<in1_type> branch{in1_p, SHORTCUT, nullptr, in2_p, keep};\n"
_FORWARD_CUDA = _BRANCH + "segnext::add_scaled(in0_p, branch, out0_p, shape);\n"
_GRADIENT_CUDA = (
    _BRANCH
    + """
segnext::add_scaled_gradient(in0_p, branch, out0_p, (in1_type*)nullptr, {out2_p, nullptr}, shape);
segnext::Sums sums;
sums.add(out2_p, out1_p, shape.channels, shape.batch);
segnext::launch(sums);
"""
)


def add_scaled(x: Var, branch: Var, scale: Var, keep: Var, *, row: int, shortcut: Var | None = None) -> Var:
    """x + (branch + shortcut)·scale·keep[row].

    Args:
        x: (B,C,H,W) float32.
        branch, shortcut: (B,C,H,W) of one type; without a shortcut, the branch alone.
        scale: (C,).
        keep: (branches, B) float32, the factors of all images in all branches of the network, of which ``row`` is this
            one's; they get no gradient.

    Returns:
        (B,C,H,W) float32.
    """
    if not jt.flags.use_cuda:
        branch = cast(branch, "float32")
        shortcut = None if shortcut is None else cast(shortcut, "float32")
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
        return self._code([x.shape], ["float32"], [x, *self.saved], _FORWARD_CPU, _FORWARD_CUDA)[0]

    def grad(self, dy: Var) -> tuple[Var | None, ...]:
        branch, scale, _, *shortcut = self.saved
        parts = [branch.shape[:2]] if jt.flags.use_cuda else []
        shapes, dtypes = [branch.shape, scale.shape, *parts], [branch.dtype, "float32", *["float32"] * len(parts)]
        dbranch, dscale, *_ = self._code(shapes, dtypes, [dy, *self.saved], _GRADIENT_CPU, _GRADIENT_CUDA)
        return dy, dbranch, dscale, None, *([dbranch] if shortcut else [])

    def _code(self, shapes: list[Any], dtypes: list[Any], inputs: list[Var], cpu: str, cuda: str) -> list[Var]:
        cpu, cuda = (source.replace("SHORTCUT", "in4_p" if len(inputs) > 4 else "nullptr") for source in (cpu, cuda))
        if jt.flags.use_cuda:
            code = {"cuda_header": _CUDA_HEADER, "cuda_src": cuda}
        else:
            code = {"cpu_header": _CPU_HEADER, "cpu_src": cpu}
        return list(jt.code(shapes, dtypes, inputs, data=self.data, **code))
