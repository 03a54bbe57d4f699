"""MSCAN's MLP as a residual branch: 1×1 convolution, depthwise 3×3, GELU, 1×1 convolution.

On CUDA all of it is one operator, and its gradient another; of the wide maps between the two 1×1 convolutions it keeps
the first alone. On the CPU it is the operators of this folder, one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segnext.backend import Function, Var, jt
from segnext.kernels.cast import cast
from segnext.kernels.convolution import conv
from segnext.kernels.mixing import mix
from segnext.kernels.products import PRODUCTS_CUDA
from segnext.kernels.residual import add_scaled
from segnext.kernels.tiles import shares, side

__all__ = ["MLPParameters", "mlp", "transform", "transform_reference"]


@dataclass(frozen=True)
class MLPParameters:
    """Weights of 1×1 convolutions have the type that maps have, all others are float32.

    Attributes:
        first: weight (K,C,1,1) and bias (K,).
        depthwise: weight (K,1,3,3) and bias (K,).
        last: weight (C,K,1,1) and bias (C,).
    """

    first: tuple[Var, Var]
    depthwise: tuple[Var, Var]
    last: tuple[Var, Var]


def transform(x: Var, normal: Var, parameters: MLPParameters, scale: Var, keep: Var, *, row: int) -> Var:
    """x + last(gelu(depthwise(first(normal))))·scale·keep[row].

    Args:
        x: (B,C,H,W) float32.
        normal: x normalised, float32, bfloat16 or float16.
        scale: (C,).
        keep: (branches, B) float32, the factors of all images in all branches of the network, of which ``row`` is this
            one's; they get no gradient.

    Returns:
        (B,C,H,W) float32. The gradients of weights are float32, whatever their type.
    """
    if not jt.flags.use_cuda:
        return transform_reference(x, normal, parameters, scale, keep, row=row)
    return _Transform(row)(x, normal, keep, scale, *parameters.first, *parameters.depthwise, *parameters.last)


def transform_reference(x: Var, normal: Var, parameters: MLPParameters, scale: Var, keep: Var, *, row: int) -> Var:
    """The same, operator by operator: what the kernels are tested against, and what runs on the CPU."""
    return add_scaled(x, mlp(normal, parameters), scale, keep, row=row)


def mlp(x: Var, parameters: MLPParameters) -> Var:
    """last(gelu(depthwise(first(x)))) alone, operator by operator, on either device."""
    first, last = ((weight, cast(bias, x.dtype)) for weight, bias in (parameters.first, parameters.last))
    return mix(conv(x, *first), *parameters.depthwise, *last)


_HEADER = "".join(
    Path(__file__).with_name(name).read_text(encoding="utf-8")
    for name in (
        "each.h", "functions.h", "planes_cuda.h", "parts_cuda.h", "residual_cuda.h", "tiles_cuda.h", "mixing_cuda.h",
    )
)  # fmt: skip

# in0 is x, or the gradient of the result.
_NAMES = """
using T = in1_type;
T* normal = in1_p;
const int batch = in0_shape0, channels = in0_shape1, hidden = in4_shape0, pixels = in0_shape2 * in0_shape3;
const segnext::MapProducts inwards{batch, channels, hidden, pixels, data["tf32"] != 0};
const segnext::MapProducts outwards{batch, hidden, channels, pixels, data["tf32"] != 0};
const segnext::Mixing<SIDE> mixing{{batch, hidden, (int)in0_shape2, (int)in0_shape3}, (int)data["shares"]};
const segnext::Residual residual{batch, channels, pixels};
const float *layer_scale = in3_p, *factors = in2_p + (int64)data["row"] * in2_shape1;
const T *first = in4_p, *last = in8_p;
const float *first_bias = in5_p, *kernels = in6_p, *kernel_bias = in7_p, *last_bias = in9_p;
"""
_FORWARD = (
    _NAMES
    + """
inwards.forward(normal, first, out1_p);
mixing.mix(out1_p, first_bias, kernels, kernel_bias, out2_p);
outwards.forward(out2_p, last, out3_p);
const segnext::Branch<T> branch{out3_p, nullptr, last_bias, layer_scale, factors};
segnext::add_scaled(in0_p, branch, out0_p, residual);
"""
)
_GRADIENT = (
    _NAMES
    + """
const T *h = in10_p, *p = in11_p;
const size_t size = (size_t)batch * hidden * pixels;
T *dp = out8_p, *dy = out9_p, *y = dy + size, *dh = y + size;

segnext::Room room{out10_p};
const int weights = channels * hidden, count = mixing.shares;
float *first_parts = room.take(batch * weights), *last_parts = room.take(batch * weights);
float *scale_parts = room.take(batch * channels), *last_bias_parts = room.take(batch * channels);
const segnext::MixParts parts{room.take(9 * count * hidden), room.take(count * hidden), room.take(count * hidden)};

const segnext::Branch<T> branch{p, nullptr, last_bias, layer_scale, factors};
segnext::add_scaled_gradient(in0_p, branch, dp, (T*)nullptr, {scale_parts, last_bias_parts}, residual);
outwards.input_gradient(dp, last, dy);
mixing.gradient(h, first_bias, kernels, kernel_bias, dy, y, dh, parts);
outwards.weight_gradient(y, dp, last_parts);
inwards.weight_gradient(normal, dh, first_parts);
inwards.input_gradient(dh, first, out0_p);

segnext::Sums sums;
sums.add(scale_parts, out1_p, channels, batch);
sums.add(first_parts, out2_p, weights, batch);
sums.add(parts.shift, out3_p, hidden, count);
sums.add(parts.kernels, out4_p, 9 * hidden, count);
sums.add(parts.biases, out5_p, hidden, count);
sums.add(last_parts, out6_p, weights, batch);
sums.add(last_bias_parts, out7_p, channels, batch);
segnext::launch(sums);
"""
)


class _Transform(Function):
    def __init__(self, row: int) -> None:
        super().__init__()
        self.data = {"row": row, "tf32": float(jt.flags.use_tensorcore != 0)}

    def execute(self, x: Var, normal: Var, *rest: Var) -> Var:
        b, _, h, w = x.shape
        wide = [b, rest[2].shape[0], h, w]
        self.data["shares"] = shares(wide)
        shapes, dtypes = [x.shape, wide, wide, x.shape], ["float32", *[normal.dtype] * 3]
        y, hidden, _, p = self._code(shapes, dtypes, [x, normal, *rest], _FORWARD)
        self.saved = [normal, *rest], [hidden, p]
        return y

    def grad(self, dy: Var) -> tuple[Var | None, ...]:
        (normal, keep, *parameters), maps = self.saved
        batch, channels = normal.shape[:2]
        wide = maps[0].shape
        parts = 2 * batch * channels * (wide[1] + 1) + 11 * self.data["shares"] * wide[1]
        shapes = [normal.shape, *(each.shape for each in parameters), normal.shape, [3, *wide], [parts]]
        dtypes = [normal.dtype, *["float32"] * len(parameters), normal.dtype, normal.dtype, "float32"]
        dnormal, *gradients = self._code(shapes, dtypes, [dy, normal, keep, *parameters, *maps], _GRADIENT)
        return dy, dnormal, None, *gradients[: len(parameters)]

    def _code(self, shapes: list[Sequence[int]], dtypes: list[str], inputs: list[Var], source: str) -> list[Var]:
        source = source.replace("SIDE", str(side(inputs[0].shape)))
        return list(
            jt.code(shapes, dtypes, inputs, cuda_header=PRODUCTS_CUDA + _HEADER, cuda_src=source, data=self.data)
        )
