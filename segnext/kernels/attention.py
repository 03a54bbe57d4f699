"""MSCAN's attention as a residual branch: 1×1 convolution, GELU, gate of seven depthwise convolutions, 1×1 convolution.

On CUDA all of it is one operator, and its gradient another: the products are cuBLAS's, biases, GELU, gate and residual
are part of the kernels beside them, and sums are completed together. It keeps the map before each of them, not what the
GELU, the strips or the gate make of it. On the CPU it is the operators of this folder, one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segnext.backend import Function, Var, jt
from segnext.kernels.cast import cast
from segnext.kernels.convolution import conv
from segnext.kernels.elementwise import gelu, multiply
from segnext.kernels.multi_scale_depthwise import multi_scale_depthwise
from segnext.kernels.products import PRODUCTS_CUDA
from segnext.kernels.residual import add_scaled
from segnext.kernels.tiles import shares, side

__all__ = ["AttentionParameters", "attend", "attend_reference", "attention"]


@dataclass(frozen=True)
class AttentionParameters:
    """Weights of 1×1 convolutions (C,C,1,1) have the type that maps have, all others are float32.

    Attributes:
        first, gate, last: weight, and bias (C,), of the convolution before GELU, that of the gate, and that behind it.
        weights: seven, (C,1,kh,kw): the 5×5, then 1×k and k×1 for k = 7, 11, 21.
        biases: seven, (C,).
    """

    first: tuple[Var, Var]
    weights: Sequence[Var]
    biases: Sequence[Var]
    gate: tuple[Var, Var]
    last: tuple[Var, Var]


def attend(x: Var, normal: Var, parameters: AttentionParameters, scale: Var, keep: Var, *, row: int) -> Var:
    """x + (last(gate(first(normal))) + normal)·scale·keep[row].

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
        return attend_reference(x, normal, parameters, scale, keep, row=row)
    first, gate, last = parameters.first, parameters.gate, parameters.last
    return _Attend(row)(x, normal, keep, scale, *first, *parameters.weights, *parameters.biases, *gate, *last)


def attend_reference(x: Var, normal: Var, parameters: AttentionParameters, scale: Var, keep: Var, *, row: int) -> Var:
    """The same, operator by operator: what the kernels are tested against, and what runs on the CPU."""
    return add_scaled(x, attention(normal, parameters), scale, keep, row=row, shortcut=normal)


def attention(x: Var, parameters: AttentionParameters) -> Var:
    """last(gate(first(x))) alone, operator by operator, on either device."""
    first, gate, last = (
        (weight, cast(bias, x.dtype)) for weight, bias in (parameters.first, parameters.gate, parameters.last)
    )
    u = gelu(conv(x, *first))
    maps = multi_scale_depthwise(u, parameters.weights, parameters.biases)
    return conv(multiply(conv(maps, *gate), u), *last)


_HEADER = "".join(
    Path(__file__).with_name(name).read_text(encoding="utf-8")
    for name in (
        "each.h", "functions.h", "planes_cuda.h", "parts_cuda.h", "residual_cuda.h", "tiles_cuda.h", "attention_cuda.h",
    )
)  # fmt: skip
_TAPS = 25 + 2 * (7 + 11 + 21)
_FIGURES = _TAPS + 2 + 6  # that every share of tiles adds up for a channel, with biases and that before the GELU

# in0 is x, or the gradient of the result.
_NAMES = """
using T = in1_type;
T* normal = in1_p;
const segnext::Maps maps{(int)in0_shape0, (int)in0_shape1, (int)in0_shape2, (int)in0_shape3};
const segnext::MapProducts products{maps.batch, maps.channels, maps.channels, maps.pixels(), data["tf32"] != 0};
const segnext::Attention<SIDE> attention{maps, (int)data["shares"]};
const segnext::Residual residual{maps.batch, maps.channels, maps.pixels()};
const float *layer_scale = in3_p, *factors = in2_p + (int64)data["row"] * in2_shape1;
const T *first = in4_p, *gate = in20_p, *last = in22_p;
const float *first_bias = in5_p, *square = in6_p, *square_bias = in13_p, *gate_bias = in21_p, *last_bias = in23_p;
const segnext::Strips strips{{in7_p, in9_p, in11_p}, {in14_p, in16_p, in18_p}, {in8_p, in10_p, in12_p},
                             {in15_p, in17_p, in19_p}};
"""
_FORWARD = (
    _NAMES
    + """
products.forward(normal, first, out1_p);
attention.square(out1_p, first_bias, square, square_bias, out2_p);
attention.add_strips(out2_p, strips, out3_p, false);
products.forward(out3_p, gate, out4_p);
attention.gate(out4_p, gate_bias, out1_p, first_bias, out5_p);
products.forward(out5_p, last, out6_p);
const segnext::Branch<T> branch{out6_p, normal, last_bias, layer_scale, factors};
segnext::add_scaled(in0_p, branch, out0_p, residual);
"""
)
# Of the five maps in out22 three are used twice.
_GRADIENT = (
    _NAMES
    + """
const T *a = in24_p, *base = in25_p, *sum = in26_p, *m = in27_p, *p = in28_p;
const size_t size = in1->num, planes = maps.planes();
T *dp = out22_p, *dz = dp + size, *dm = dz + size, *dgate = dm + size, *z = dgate + size;
T *dsum = dz, *dbase = dm, *da = dp;

segnext::Room room{out23_p};
const int square_size = maps.channels * maps.channels, count = attention.shares, figures = count * maps.channels;
float *first_parts = room.take(maps.batch * square_size), *gate_parts = room.take(maps.batch * square_size);
float *last_parts = room.take(maps.batch * square_size);
float *scale_parts = room.take(planes), *last_bias_parts = room.take(planes), *gate_bias_parts = room.take(planes);
const segnext::SquareParts square_parts{room.take(25 * figures), room.take(figures), room.take(figures)};
segnext::StripParts strip_parts;
const int lengths[3] = {7, 11, 21};
for (int i = 0; i < 3; i++) {
    strip_parts.rows[i] = room.take(lengths[i] * figures);
    strip_parts.columns[i] = room.take(lengths[i] * figures);
    strip_parts.row_biases[i] = room.take(figures);
    strip_parts.column_biases[i] = room.take(figures);
}

const segnext::Branch<T> branch{p, normal, last_bias, layer_scale, factors};
segnext::add_scaled_gradient(in0_p, branch, dp, out0_p, {scale_parts, last_bias_parts}, residual);
products.input_gradient(dp, last, dz);
attention.gate_gradient(m, gate_bias, a, first_bias, dz, z, dm, dgate, gate_bias_parts);
products.weight_gradient(z, dp, last_parts);
products.input_gradient(dm, gate, dsum);
products.weight_gradient(sum, dm, gate_parts);
attention.strip_gradients(base, dsum, strips, strip_parts);
attention.add_strips(dsum, strips, dbase, true);
attention.square_gradient(a, first_bias, square, dbase, dgate, da, square_parts);
products.weight_gradient(normal, da, first_parts);
products.input_gradient(da, first, out0_p, true);

segnext::Sums sums;
sums.add(scale_parts, out1_p, maps.channels, maps.batch);
sums.add(first_parts, out2_p, square_size, maps.batch);
sums.add(square_parts.shift, out3_p, maps.channels, count);
sums.add(square_parts.kernels, out4_p, 25 * maps.channels, count);
sums.add(square_parts.biases, out11_p, maps.channels, count);
float *kernels[6] = {out5_p, out6_p, out7_p, out8_p, out9_p, out10_p};
float *biases[6] = {out12_p, out13_p, out14_p, out15_p, out16_p, out17_p};
for (int i = 0; i < 3; i++) {
    sums.add(strip_parts.rows[i], kernels[2 * i], lengths[i] * maps.channels, count);
    sums.add(strip_parts.columns[i], kernels[2 * i + 1], lengths[i] * maps.channels, count);
    sums.add(strip_parts.row_biases[i], biases[2 * i], maps.channels, count);
    sums.add(strip_parts.column_biases[i], biases[2 * i + 1], maps.channels, count);
}
sums.add(gate_parts, out18_p, square_size, maps.batch);
sums.add(gate_bias_parts, out19_p, maps.channels, maps.batch);
sums.add(last_parts, out20_p, square_size, maps.batch);
sums.add(last_bias_parts, out21_p, maps.channels, maps.batch);
segnext::launch(sums);
"""
)


class _Attend(Function):
    def __init__(self, row: int) -> None:
        super().__init__()
        self.data = {"row": row, "tf32": float(jt.flags.use_tensorcore != 0)}

    def execute(self, x: Var, normal: Var, *rest: Var) -> Var:
        self.data["shares"] = shares(x.shape)
        dtypes = ["float32", *[normal.dtype] * 6]
        y, a, base, maps, m, _, p = self._code([x.shape] * 7, dtypes, [x, normal, *rest], _FORWARD)
        self.saved = [normal, *rest], [a, base, maps, m, p]
        return y

    def grad(self, dy: Var) -> tuple[Var | None, ...]:
        (normal, keep, *parameters), maps = self.saved
        batch, channels = normal.shape[:2]
        parts = 3 * batch * channels * (channels + 1) + self.data["shares"] * channels * _FIGURES
        shapes = [normal.shape, *(each.shape for each in parameters), [5, *normal.shape], [parts]]
        dtypes = [normal.dtype, *["float32"] * len(parameters), normal.dtype, "float32"]
        dnormal, *gradients = self._code(shapes, dtypes, [dy, normal, keep, *parameters, *maps], _GRADIENT)
        return dy, dnormal, None, *gradients[: len(parameters)]

    def _code(self, shapes: list[Sequence[int]], dtypes: list[str], inputs: list[Var], source: str) -> list[Var]:
        source = source.replace("SIDE", str(side(inputs[0].shape)))
        return list(
            jt.code(shapes, dtypes, inputs, cuda_header=PRODUCTS_CUDA + _HEADER, cuda_src=source, data=self.data)
        )
