"""A residual branch added to its input, scaled per channel (layer scale) and per image (stochastic depth)."""

from __future__ import annotations

from pathlib import Path

from segnext.backend import Function, Var, jt

__all__ = ["add_scaled", "add_scaled_reference"]

_HEADER = Path(__file__).with_name("residual_cpu.h").read_text(encoding="utf-8")
_SHAPE = """
const segnext::Residual shape{(ptrdiff_t)in0_shape0, (ptrdiff_t)in0_shape1, (ptrdiff_t)(in0_shape2 * in0_shape3)};
const float* keep = in3_p + (ptrdiff_t)data["row"] * in3_shape1;
"""
_FORWARD = _SHAPE + "segnext::add_scaled(in0_p, in1_p, in2_p, keep, out0_p, shape);\n"
_GRADIENT = _SHAPE + "segnext::add_scaled_gradient(in0_p, in1_p, in2_p, keep, out0_p, out1_p, shape);\n"


def add_scaled(x: Var, branch: Var, scale: Var, keep: Var, *, row: int) -> Var:
    """x + branch·scale·keep[row].

    Args:
        x, branch: (B,C,H,W) float32.
        scale: (C,).
        keep: (branches, B) float32, the factors of all images in all branches of the network, of which ``row`` is this
            one's; they get no gradient.

    Returns:
        (B,C,H,W) float32.
    """
    if jt.flags.use_cuda:
        return add_scaled_reference(x, branch, scale, keep, row=row)
    return _AddScaled(row)(x, branch, scale, keep)


def add_scaled_reference(x: Var, branch: Var, scale: Var, keep: Var, *, row: int) -> Var:
    """The same in plain Jittor: what the kernels are tested against."""
    return x + branch * scale.broadcast(x, [0, 2, 3]) * keep[row].broadcast(x, [1, 2, 3])


class _AddScaled(Function):
    def __init__(self, row: int) -> None:
        super().__init__()
        self.data = {"row": row}

    def execute(self, x: Var, branch: Var, scale: Var, keep: Var) -> Var:
        self.saved = branch, scale, keep
        return jt.code(x.shape, x.dtype, [x, branch, scale, keep], cpu_header=_HEADER, cpu_src=_FORWARD, data=self.data)

    def grad(self, dy: Var) -> tuple[Var, Var, Var, None]:
        branch, scale, keep = self.saved
        shapes, dtypes = [branch.shape, scale.shape], ["float32"] * 2
        inputs = [dy, branch, scale, keep]
        dbranch, dscale = jt.code(shapes, dtypes, inputs, cpu_header=_HEADER, cpu_src=_GRADIENT, data=self.data)
        return dy, dbranch, dscale, None
