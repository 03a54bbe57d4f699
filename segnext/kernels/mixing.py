"""The second half of MSCAN's MLP: depthwise 3×3 convolution, GELU, 1×1 convolution.

What the GELU gives is the largest map of a block. On the CPU all three are one operator, which does not keep it but
works it out again for the gradient, together with what the GELU was given. On CUDA they are three; there a block's MLP
is an operator of its own (mlp.py), and what is here serves models whose norms are folded.
"""

from __future__ import annotations

from pathlib import Path

from segnext.backend import Function, Var, jt
from segnext.kernels.cast import cast
from segnext.kernels.convolution import conv, conv_reference
from segnext.kernels.depthwise import depthwise_conv, depthwise_reference
from segnext.kernels.elementwise import gelu

__all__ = ["mix", "mix_reference"]


_HEADER = "".join(
    Path(__file__).with_name(name).read_text(encoding="utf-8")
    for name in (
        "each.h", "functions.h", "product_cpu.h", "blocks_cpu.h", "depthwise_cpu.h", "convolution_cpu.h",
        "mixing_cpu.h",
    )
)  # fmt: skip
_SHAPE = """
const segnext::Maps maps{(int)in0_shape0, (int)in0_shape1, (int)in0_shape2, (int)in0_shape3};
const segnext::Convolution shape{maps.batch, maps.channels, maps.height, maps.width, (int)@Z_shape1, 1, 1,
                                 maps.height, maps.width, 1, 0};
"""
_FORWARD = f"""{_SHAPE.replace("@Z", "out0")}
segnext::mix(in0_p, in1_p, in2_p, in3_p, in4_p, out1_p, out0_p, maps, shape);
"""
_GRADIENT = f"""{_SHAPE.replace("@Z", "in1")}
segnext::mix_gradient(in0_p, in1_p, in2_p, in3_p, in4_p, out0_p, out1_p, out2_p, out3_p, out4_p, out5_p, maps, shape);
"""


def mix(x: Var, kernels: Var, kernel_bias: Var, weight: Var, bias: Var) -> Var:
    """``conv(gelu(depthwise_conv(x, kernels, kernel_bias)), weight, bias)``.

    Args:
        x: (B,C,H,W) float32, bfloat16 or float16.
        kernels: (C,1,3,3) float32.
        kernel_bias: (C,) float32.
        weight: (K,C,1,1) of the type of ``x``.
        bias: (K,) of the type of ``x``.

    Returns:
        (B,K,H,W) of the type of ``x``; sums are float32, whatever it is.
    """
    if jt.flags.use_cuda:
        return conv(gelu(depthwise_conv(x, kernels, kernel_bias)), weight, bias)
    arguments = [cast(each, "float32") for each in (x, kernels, kernel_bias, weight, bias)]
    return cast(_Mix()(*arguments), x.dtype)


def mix_reference(x: Var, kernels: Var, kernel_bias: Var, weight: Var, bias: Var) -> Var:
    """The same in plain Jittor: what the kernels are tested against."""
    y = depthwise_reference(x, kernels, kernel_bias)
    return conv_reference(y * 0.5 * (jt.erf(y / 2**0.5) + 1), weight, bias)


class _Mix(Function):
    def execute(self, x: Var, kernels: Var, kernel_bias: Var, weight: Var, bias: Var) -> Var:
        inputs = [x, kernels, kernel_bias, weight, bias]
        self.saved = inputs
        b, _, h, w = x.shape
        shapes = [[b, weight.shape[0], h, w], x.shape]  # the second is room
        return jt.code(shapes, ["float32"] * 2, inputs, cpu_header=_HEADER, cpu_src=_FORWARD)[0]

    def grad(self, dz: Var) -> tuple[Var, ...]:
        x, kernels, kernel_bias, weight, _ = self.saved
        shapes = [each.shape for each in (*self.saved, x)]  # the last is room
        inputs = [x, dz, kernels, kernel_bias, weight]
        gradients = jt.code(shapes, ["float32"] * 6, inputs, cpu_header=_HEADER, cpu_src=_GRADIENT)
        return tuple(gradients[:5])
