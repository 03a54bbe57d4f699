"""Depthwise convolution: stride 1, odd kernel, "same" padding, with bias.

Jittor computes grouped convolutions on the CPU by generic loops; MSCAN spends most of its time in them. The operator
here is the same function with kernels of its own, for the CPU and for CUDA, tested against ``depthwise_reference``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segnext.backend import Function, Var, jt
from segnext.kernels.cast import cast

__all__ = ["depthwise_conv", "depthwise_reference"]


_CPU_HEADER = "".join(
    Path(__file__).with_name(name).read_text(encoding="utf-8")
    for name in ("each.h", "functions.h", "product_cpu.h", "blocks_cpu.h", "depthwise_cpu.h")
)
_CUDA_HEADER = Path(__file__).with_name("depthwise_cuda.h").read_text(encoding="utf-8")

_MAPS = "const segnext::Maps maps{(int)in0_shape0, (int)in0_shape1, (int)in0_shape2, (int)in0_shape3};\n"
_CONVOLVE = f"""{_MAPS}SEGNEXT_DISPATCH_KERNEL(
    convolve, in1_shape2, in1_shape3, in0_p, in1_p, in2_p, out0_p, maps, false)
"""
_GRADIENT = f"""{_MAPS}SEGNEXT_DISPATCH_KERNEL(
    convolve_gradient, in2_shape2, in2_shape3, in0_p, in1_p, in2_p, in3_p, out0_p, out1_p, out2_p, maps, nullptr)
"""

_CUDA_CONVOLVE = """
@alias(x, in0)
@alias(kernels, in1)
@alias(bias, in2)
const segnext::Shape shape{(int)x_shape0, (int)x_shape1, (int)x_shape2, (int)x_shape3,
                           (int)kernels_shape2, (int)kernels_shape3};
segnext::convolve<INSTANCE>(x_p, kernels_p, bias_p, out0_p, shape, FLIP);
"""
_CUDA_CORRELATE = """
@alias(x, in0)
@alias(dy, in1)
const segnext::Shape shape{(int)x_shape0, (int)x_shape1, (int)x_shape2, (int)x_shape3,
                           (int)out0_shape2, (int)out0_shape3};
segnext::correlate<INSTANCE>(x_p, dy_p, out0_p, out1_p, out2_p, shape, (int)out2_shape1);
"""
_SIZES = {(3, 3), (5, 5), (1, 7), (7, 1), (1, 11), (11, 1), (1, 21), (21, 1)}  # those of MSCAN
_CUDA_BLOCKS = 1024  # enough to keep every multiprocessor of a large GPU busy


def depthwise_conv(x: Var, weight: Var, bias: Var) -> Var:
    """Convolves every channel with a filter of its own.

    Args:
        x: (B,C,H,W) float32, bfloat16 or float16.
        weight: (C,1,kh,kw) float32, kh and kw odd.
        bias: (C,) float32.

    Returns:
        (B,C,H,W) of the type of ``x``; sums are float32, whatever it is.
    """
    if jt.flags.use_cuda:
        return _CudaConv.apply(x, weight, bias)
    if tuple(weight.shape[2:]) not in _SIZES:
        return depthwise_reference(x, weight, bias)
    return cast(_CpuConv()(cast(x, "float32"), weight, bias), x.dtype)  # its kernels know float32 alone


def depthwise_reference(x: Var, weight: Var, bias: Var) -> Var:
    """The same in plain Jittor: what the kernels are tested against."""
    kh, kw = weight.shape[2:]
    return jt.nn.conv2d(x, weight, bias, stride=1, padding=(kh // 2, kw // 2), groups=x.shape[1])


class _CpuConv(Function):
    def execute(self, x: Var, weight: Var, bias: Var) -> Var:
        self.saved = x, weight, bias
        return jt.code(x.shape, x.dtype, [x, weight, bias], cpu_header=_CPU_HEADER, cpu_src=_CONVOLVE)

    def grad(self, dy: Var) -> tuple[Var, Var, Var]:
        x, weight, bias = self.saved
        shapes, inputs = [x.shape, weight.shape, bias.shape], [x, dy, weight, bias]
        dx, dweight, dbias = jt.code(shapes, ["float32"] * 3, inputs, cpu_header=_CPU_HEADER, cpu_src=_GRADIENT)
        return dx, dweight, dbias


class _CudaConv(Function):
    def execute(self, x: Var, weight: Var, bias: Var) -> Var:
        self.saved = x, weight, bias
        return _convolve(x, weight, bias, flip=False)

    def grad(self, dy: Var) -> tuple[Var, Var, Var]:
        x, weight, bias = self.saved
        dx = _convolve(dy, weight, bias, flip=True)
        shapes, dtypes = [weight.shape, bias.shape], [weight.dtype, bias.dtype]
        side = _block_side(x.shape)
        partial = [x.shape[1], _shares(x.shape, side), weight.shape[2] * weight.shape[3] + 1]
        source = _CUDA_CORRELATE.replace("INSTANCE", _instance(weight.shape, side))
        dweight, dbias, _ = jt.code(
            [*shapes, partial], [*dtypes, "float32"], [x, dy], cuda_header=_CUDA_HEADER, cuda_src=source
        )
        return dx, dweight, dbias


def _convolve(x: Var, weight: Var, bias: Var, *, flip: bool) -> Var:
    source = _CUDA_CONVOLVE.replace("FLIP", str(flip).lower())
    source = source.replace("INSTANCE", _instance(weight.shape, _block_side(x.shape)))
    return jt.code(x.shape, x.dtype, [x, weight, bias], cuda_header=_CUDA_HEADER, cuda_src=source)


def _instance(weight_shape: Sequence[int], side: int) -> str:
    """The template arguments: kernel height and width, 0 for sizes without an instance of their own, and the side."""
    height, width = weight_shape[2:]
    return f"{height}, {width}, {side}" if (height, width) in _SIZES else f"0, 0, {side}"


def _block_side(shape: Sequence[int]) -> int:
    """Pixels of a side of a block: small for the small planes of the last stages."""
    return 16 if min(shape[2:]) <= 16 else 32


def _shares(shape: Sequence[int], side: int) -> int:
    """How many blocks share a channel's pixels in the weight gradient; depends on the shape alone, as sums do on it."""
    batch, channels, height, width = shape
    pieces = batch * -(-height // side) * -(-width // side)
    return max(1, min(pieces, -(-_CUDA_BLOCKS // channels)))
