"""Depthwise convolution: stride 1, odd kernel, "same" padding, with bias.

Jittor computes grouped convolutions on the CPU by generic loops; MSCAN spends most of its time in them. The operator
here is the same function with kernels of its own, tested against ``depthwise_reference``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segnext import backend

__all__ = ["depthwise_conv", "depthwise_reference"]

jt = backend.start()
Function: Any = jt.Function
Var = Any

_CPU_HEADER = Path(__file__).with_name("depthwise_cpu.h").read_text(encoding="utf-8")

_CONVOLVE = """
@alias(x, in0)
@alias(kernels, in1)
@alias(bias, in2)
SEGNEXT_DISPATCH_KERNEL(convolve, kernels_shape2, kernels_shape3, x_p, kernels_p, bias_p, out0_p, x_shape0, x_shape1,
                        x_shape2, x_shape3, kernels_shape2, kernels_shape3, FLIP)
"""
_CORRELATE = """
@alias(x, in0)
@alias(dy, in1)
SEGNEXT_DISPATCH_KERNEL(correlate, out0_shape2, out0_shape3, x_p, dy_p, out0_p, out1_p, x_shape0, x_shape1, x_shape2,
                        x_shape3, out0_shape2, out0_shape3)
"""


def depthwise_conv(x: Var, weight: Var, bias: Var) -> Var:
    """Convolves every channel with a filter of its own.

    Args:
        x: (B,C,H,W) float32.
        weight: (C,1,kh,kw) float32, kh and kw odd.
        bias: (C,) float32.

    Returns:
        (B,C,H,W) float32.
    """
    if jt.flags.use_cuda:
        return depthwise_reference(x, weight, bias)
    return _DepthwiseConv.apply(x, weight, bias)


def depthwise_reference(x: Var, weight: Var, bias: Var) -> Var:
    """The same in plain Jittor: what the kernels are tested against."""
    kh, kw = weight.shape[2:]
    return jt.nn.conv2d(x, weight, bias, stride=1, padding=(kh // 2, kw // 2), groups=x.shape[1])


class _DepthwiseConv(Function):
    def execute(self, x: Var, weight: Var, bias: Var) -> Var:
        self.saved = x, weight, bias
        return _convolve(x, weight, bias, flip=False)

    def grad(self, dy: Var) -> tuple[Var, Var, Var]:
        x, weight, bias = self.saved
        dx = _convolve(dy, weight, bias, flip=True)
        shapes, dtypes = [weight.shape, bias.shape], [weight.dtype, bias.dtype]
        dweight, dbias = jt.code(shapes, dtypes, [x, dy], cpu_header=_CPU_HEADER, cpu_src=_CORRELATE)
        return dx, dweight, dbias


def _convolve(x: Var, weight: Var, bias: Var, *, flip: bool) -> Var:
    source = _CONVOLVE.replace("FLIP", str(flip).lower())
    return jt.code(x.shape, x.dtype, [x, weight, bias], cpu_header=_CPU_HEADER, cpu_src=source)
