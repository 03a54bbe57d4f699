"""Bilinear resize with its exact gradient.

Jittor gathers and scatters pixel by pixel at computed places, on CUDA with atomic additions; the operator here reads
and writes in order, and its gradient has the same bits every time.
"""

from __future__ import annotations

from pathlib import Path

from segnext.backend import Function, Var, jt

__all__ = ["resize", "resize_reference"]


_CPU_HEADER, _CUDA_HEADER = (
    "".join(Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("each.h", "bilinear.h", own))
    for own in ("resize_cpu.h", "resize_cuda.h")
)
_SHAPE = """
const segnext::Resize shape{{(int)@X_shape2, (int)@Y_shape2}, {(int)@X_shape3, (int)@Y_shape3}};
const int planes = (int)(in0_shape0 * in0_shape1);
"""
_FORWARD = _SHAPE.replace("@X", "in0").replace("@Y", "out0") + "segnext::resize(in0_p, out0_p, planes, shape);\n"
_GRADIENT = (
    _SHAPE.replace("@X", "out0").replace("@Y", "in0") + "segnext::resize_gradient(in0_p, RESULTS, planes, shape);\n"
)
_CPU_TYPES, _CUDA_TYPES = ("float32",), ("float32", "float16", "bfloat16")


def resize(x: Var, size: tuple[int, int]) -> Var:
    """Resizes (B,C,H,W) to ``size`` (height, width) as ``align_corners=False``.

    Pixel i of n reads at (i + ½)·N/n − ½ of N, not beyond the outermost pixels. Types other than float32, on CUDA also
    float16 and bfloat16, take the plain operators.
    """
    if tuple(x.shape[2:]) == tuple(size):
        return x
    if x.dtype not in (_CUDA_TYPES if jt.flags.use_cuda else _CPU_TYPES):
        return resize_reference(x, size).cast(x.dtype)
    return _Resize(size)(x)


def resize_reference(x: Var, size: tuple[int, int]) -> Var:
    """The same in plain Jittor: what the kernels are tested against."""
    return jt.nn.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


class _Resize(Function):
    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def execute(self, x: Var) -> Var:
        self.shape = x.shape
        shape = (*x.shape[:2], *self.size)
        if jt.flags.use_cuda:
            return jt.code(shape, x.dtype, [x], cuda_header=_CUDA_HEADER, cuda_src=_FORWARD)
        return jt.code(shape, x.dtype, [x], cpu_header=_CPU_HEADER, cpu_src=_FORWARD)

    def grad(self, dy: Var) -> Var:
        if not jt.flags.use_cuda:
            source = _GRADIENT.replace("RESULTS", "out0_p")
            return jt.code(self.shape, dy.dtype, [dy], cpu_header=_CPU_HEADER, cpu_src=source)
        source = _GRADIENT.replace("RESULTS", "out1_p, out0_p")
        shapes, dtypes = [self.shape, (*self.shape[:3], self.size[1])], [dy.dtype, "float32"]
        dx, _ = jt.code(shapes, dtypes, [dy], cuda_header=_CUDA_HEADER, cuda_src=source)
        return dx
