"""Batch, layer and group normalisation of maps (B,C,H,W), in float32 whatever type they have.

All three share two operators, one forward and one backward; where ranks average their statistics, each is two. Written
in plain Jittor, every neighbour that a norm is fused with makes operators of its own, half of what a training compiles;
and on CUDA their sums end in atomic additions, with other bits in every run. The operators of CUDA read and write maps
of any type; those of the CPU float32 alone, with casts around.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from segnext.backend import Function, Var, jt
from segnext.kernels.cast import cast
from segnext.kernels.sums import PLANES_CUDA

__all__ = [
    "EPSILON",
    "Normalised",
    "Running",
    "batch_norm",
    "batch_norm_reference",
    "fixed_norm",
    "fixed_norm_reference",
    "group_norm",
    "group_norm_reference",
    "layer_norm",
    "layer_norm_reference",
    "running_statistics_reference",
]

EPSILON = 1e-5  # added to every variance

Average = Callable[[Var], Var]

_CPU_HEADER = Path(__file__).with_name("norm_cpu.h").read_text(encoding="utf-8")
_CUDA_HEADER = PLANES_CUDA + Path(__file__).with_name("norm_cuda.h").read_text(encoding="utf-8")
_NORM = """
const segnext::Norm norm{(INDEX)in0_shape0, (INDEX)in0_shape1, (INDEX)(in0_shape2 * in0_shape3),
                         (INDEX)data["groups"], (int)data["over"], (float)data["epsilon"]};
"""
# MEMORY: on CUDA, two figures of each plane, and in the backward pass two of each row.
_STATISTICS = _NORM + "segnext::statistics(in0_p, out0_p, out1_p, MEMORY norm);\n"
_NORMALISE = _NORM + "segnext::normalise(in0_p, in1_p, in2_p, in3_p, in4_p, out0_p, norm);\n"
_FORWARD = _NORM + (
    "segnext::normalise_by_own(in0_p, in1_p, in2_p, out0_p, out1_p, out2_p, segnext::Moving{MOVING}, MEMORY norm);\n"
)
_MOVING = '(float)data["momentum"], (float)data["unbias"]'
# BESIDE: the gradient that has come to x beside the norm, or a null pointer.
_GRADIENTS = _NORM + (
    "segnext::gradients(in0_p, in1_p, in2_p, in3_p, in4_p, BESIDE, out0_p, out1_p, out2_p, "
    'data["fixed"] != 0, MEMORY norm);\n'
)
_PARAMETER_GRADIENTS = _NORM + (
    "segnext::parameter_gradients(in0_p, in1_p, in2_p, in3_p, in4_p, out0_p, out1_p, out2_p, out3_p, MEMORY norm);\n"
)
_INPUT_GRADIENT = _NORM + (
    "segnext::input_gradient(in0_p, in1_p, in2_p, in3_p, in4_p, in5_p, in6_p, BESIDE, out0_p, norm);\n"
)
_MOVE = (
    f"segnext::move_statistics(in2_p, in3_p, segnext::Moving{{in0_p, in1_p, out0_p, out1_p, {_MOVING}}}, "
    "(INDEX)in0_shape0);\n"
)


@dataclass(frozen=True)
class Running:
    """The running mean and unbiased variance (C,), and the share that a batch gets of them."""

    mean: Var
    variance: Var
    momentum: float

    def data(self, count: int) -> dict[str, float]:
        """What the operators need to know for a batch of ``count`` pixels a channel."""
        return {"momentum": self.momentum, "unbias": count / max(count - 1, 1)}

    def move(self, batch: tuple[Var, Var], count: int) -> None:
        """Moves both towards mean and biased variance of a batch of ``count`` pixels a channel."""
        inputs = [self.mean, self.variance, *batch]
        self.update(_code([self.mean.shape] * 2, inputs, _MOVE, self.data(count)))

    def update(self, values: Iterable[Var]) -> None:
        for old, new in zip((self.mean, self.variance), values, strict=True):
            old.update(new)


class Normalised(NamedTuple):
    """What a batch norm makes of x.

    Attributes:
        y: (B,C,H,W).
        x: itself, for what goes past the norm: the gradients of both ways are added up by the norm's own operator.
        mean, variance: (C,), the variance biased, through which no gradient flows any more.
    """

    y: Var
    x: Var
    mean: Var
    variance: Var


def batch_norm(
    x: Var,
    weight: Var,
    bias: Var,
    *,
    dtype: str = "float32",
    average: Average | None = None,
    running: Running | None = None,
) -> Normalised:
    """Normalises every channel over all images of the batch.

    Args:
        x: (B,C,H,W) float32, bfloat16 or float16.
        weight, bias: (C,) float32.
        dtype: the type of the result.
        average: the mean over all ranks of a variable (C,), differentiable; None in a run of one process.
        running: moved by this batch as that of this process alone, where given; not together with ``average``.

    Returns:
        y, x, and mean and variance over all ranks.
    """
    layout = _Layout("batch")
    if average is None:
        norm = _Norm(layout, dtype, running)
        return Normalised(*_wide(norm, x, weight, bias), *norm.statistics)
    own_mean, variance = _statistics(x, layout)
    mean = average(own_mean)
    variance = average(variance + (own_mean - mean) * (own_mean - mean))
    return Normalised(*_wide(_Normalise(layout, dtype, average), x, weight, bias, mean, variance), mean, variance)


def fixed_norm(x: Var, weight: Var, bias: Var, mean: Var, variance: Var, *, dtype: str = "float32") -> Normalised:
    """Normalises every channel by a mean and a variance (C,) that are constants, as batch norm does in evaluation."""
    return Normalised(*_wide(_Normalise(_Layout("batch"), dtype), x, weight, bias, mean, variance), mean, variance)


def layer_norm(x: Var, weight: Var, bias: Var, *, dtype: str = "float32") -> Var:
    """Normalises every pixel over its channels; weight and bias are (C,)."""
    return _wide(_Norm(_Layout("channels"), dtype), x, weight, bias)[0]


def group_norm(x: Var, weight: Var, bias: Var, *, groups: int, dtype: str = "float32") -> Var:
    """Normalises every group of C/groups neighbouring channels of an image; weight and bias are (C,)."""
    return _wide(_Norm(_Layout("group", groups), dtype), x, weight, bias)[0]


@dataclass(frozen=True)
class _Layout:
    """Which elements share a mean: a channel of all images ("batch"), a "group", or the "channels" of a pixel."""

    over: str
    groups: int = 1

    @property
    def data(self) -> dict[str, float]:
        return {"over": ("batch", "group", "channels").index(self.over), "groups": self.groups, "epsilon": EPSILON}

    def rows(self, x: Var) -> int:
        """The number of means."""
        b, c, h, w = x.shape
        return int({"batch": c, "group": b * self.groups, "channels": b * h * w}[self.over])


def _wide(norm: _Norm | _Normalise, x: Var, *rest: Var) -> tuple[Var, Var]:
    """Calls it for y and x; on the CPU, which knows float32 alone, between casts."""
    if jt.flags.use_cuda:
        y, x = norm(x, *rest)
        return y, x
    dtype, norm.dtype = norm.dtype, "float32"
    y, x = norm(cast(x, "float32"), *rest)
    return cast(y, dtype), x


def _statistics(x: Var, layout: _Layout) -> tuple[Var, Var]:
    """Mean and biased variance, both (rows,), as values without gradient: ``_Normalise`` takes care of theirs."""
    rows = [layout.rows(x)]
    x = x if jt.flags.use_cuda else cast(x, "float32")
    mean, variance = _code([rows, rows], [x], _STATISTICS, layout.data, memory=2 * _planes(x))
    return mean, variance


class _Norm(Function):
    """(x − mean)/√(variance + ε)·weight + bias with the mean and the biased variance of x itself."""

    def __init__(self, layout: _Layout, dtype: str, running: Running | None = None) -> None:
        super().__init__()
        self.layout, self.dtype, self.running = layout, dtype, running

    @property
    def statistics(self) -> tuple[Var, Var]:
        """Mean and variance, both (rows,), as values without gradient: that of x goes through them already."""
        return self.saved[2].stop_grad(), self.saved[3].stop_grad()

    def execute(self, x: Var, weight: Var, bias: Var) -> tuple[Var, Var]:
        rows = [self.layout.rows(x)]
        shapes, inputs, data = [x.shape, rows, rows], [x, weight, bias], self.layout.data
        moving = "nullptr, nullptr, nullptr, nullptr, 0.f, 0.f"
        if self.running is not None:
            shapes += [rows, rows]
            inputs += [self.running.mean, self.running.variance]
            data |= self.running.data(x.numel() // x.shape[1])
            moving = f"in3_p, in4_p, out3_p, out4_p, {_MOVING}"
        source, memory = _FORWARD.replace("MOVING", moving), 2 * _planes(x)
        y, mean, variance, *moved = _code(shapes, inputs, source, data, dtype=self.dtype, memory=memory)
        if self.running is not None:
            self.running.update(moved)
        self.saved = x, weight, mean, variance
        return y, x

    def grad(self, dy: Var, beside: Var | None) -> tuple[Var, Var, Var]:
        return _backward(dy, beside, *self.saved, self.layout, fixed=False)


class _Normalise(Function):
    """The same with a given mean and variance: constants, or those of all ranks, made by ``average``."""

    def __init__(self, layout: _Layout, dtype: str, average: Average | None = None) -> None:
        super().__init__()
        self.layout, self.dtype, self.average = layout, dtype, average

    def execute(self, x: Var, weight: Var, bias: Var, mean: Var, variance: Var) -> tuple[Var, Var]:
        self.saved = x, weight, mean, variance
        inputs = [x, mean, variance, weight, bias]
        (y,) = _code([x.shape], inputs, _NORMALISE, self.layout.data, dtype=self.dtype)
        return y, x

    def grad(self, dy: Var, beside: Var | None) -> tuple[Var, Var, Var, None, None]:
        x, weight, mean, variance = self.saved
        if self.average is None:
            return *_backward(dy, beside, *self.saved, self.layout, fixed=True), None, None
        inputs = [x, dy, mean, variance, weight]
        shapes = [weight.shape, weight.shape, mean.shape, mean.shape]
        dweight, dbias, *means = _code(shapes, inputs, _PARAMETER_GRADIENTS, self.layout.data, memory=2 * _planes(x))
        means = [self.average(each) for each in means]
        inputs, source = _with_beside([*inputs, *means], beside, _INPUT_GRADIENT)
        (dx,) = _code([x.shape], inputs, source, self.layout.data, dtype=x.dtype)
        return dx, dweight, dbias, None, None


def _backward(
    dy: Var, beside: Var | None, x: Var, weight: Var, mean: Var, variance: Var, layout: _Layout, *, fixed: bool
) -> tuple[Var, Var, Var]:
    inputs, source = _with_beside([x, dy, mean, variance, weight], beside, _GRADIENTS)
    shapes = [x.shape, weight.shape, weight.shape]
    data, memory = layout.data | {"fixed": float(fixed)}, 2 * (_planes(x) + layout.rows(x))
    dx, dweight, dbias = _code(shapes, inputs, source, data, dtype=x.dtype, memory=memory)
    return dx, dweight, dbias


def _with_beside(inputs: list[Var], beside: Var | None, source: str) -> tuple[list[Var], str]:
    """Inputs, of which x is the first, and source of an operator that adds ``beside`` to the gradient of x."""
    if beside is None:
        return inputs, source.replace("BESIDE", "(const in0_type*)nullptr")
    return [*inputs, cast(beside, inputs[0].dtype)], source.replace("BESIDE", f"in{len(inputs)}_p")


def _planes(x: Var) -> int:
    return int(x.shape[0] * x.shape[1])


def _code(
    shapes: list[Any],
    inputs: list[Var],
    source: str,
    data: dict[str, float],
    *,
    dtype: str = "float32",
    memory: int = 0,
) -> list[Var]:
    """An operator of arrays of these shapes, the first of ``dtype``; on CUDA it is given ``memory`` figures to use."""
    results = len(shapes)
    if jt.flags.use_cuda:
        source = source.replace("MEMORY", f"out{results}_p,").replace("INDEX", "int")
        shapes = [*shapes, [memory]] if memory else shapes
        code = {"cuda_header": _CUDA_HEADER, "cuda_src": source}
    else:
        code = {"cpu_header": _CPU_HEADER, "cpu_src": source.replace("MEMORY", "").replace("INDEX", "ptrdiff_t")}
    dtypes = [dtype, *["float32"] * (len(shapes) - 1)]
    return list(jt.code(shapes, dtypes, inputs, data=data, **code))[:results]


def batch_norm_reference(
    x: Var, weight: Var, bias: Var, *, average: Average | None = None, running: Running | None = None
) -> Normalised:
    """The same in plain Jittor: what the kernels are tested against."""
    average = average or (lambda value: value)
    dims = [0, 2, 3]
    mean = average(x.mean(dims))
    centred = x - mean.broadcast(x, dims)
    variance = average((centred * centred).mean(dims))
    scale = weight / jt.sqrt(variance + EPSILON)
    if running is not None:
        running.update(running_statistics_reference(running, (mean, variance), x.numel() // x.shape[1]))
    return Normalised(centred * scale.broadcast(x, dims) + bias.broadcast(x, dims), x, mean, variance)


def fixed_norm_reference(x: Var, weight: Var, bias: Var, mean: Var, variance: Var) -> Normalised:
    """The same in plain Jittor: what the kernels are tested against."""
    dims = [0, 2, 3]
    scale = weight / jt.sqrt(variance + EPSILON)
    y = x * scale.broadcast(x, dims) + (bias - mean * scale).broadcast(x, dims)
    return Normalised(y, x, mean, variance)


def running_statistics_reference(running: Running, batch: tuple[Var, Var], count: int) -> list[Var]:
    """What ``running.move`` makes of it, in plain Jittor: what the kernel is tested against."""
    batch = batch[0], batch[1] * (count / max(count - 1, 1))
    pairs = zip((running.mean, running.variance), batch, strict=True)
    return [old + (new - old) * running.momentum for old, new in pairs]


def layer_norm_reference(x: Var, weight: Var, bias: Var) -> Var:
    """The same in plain Jittor: what the kernels are tested against."""
    centred = x - x.mean([1]).broadcast(x, [1])
    scale = 1 / jt.sqrt((centred * centred).mean([1]) + EPSILON)
    return centred * scale.broadcast(x, [1]) * weight.broadcast(x, [0, 2, 3]) + bias.broadcast(x, [0, 2, 3])


def group_norm_reference(x: Var, weight: Var, bias: Var, *, groups: int) -> Var:
    """The same in plain Jittor: what the kernels are tested against."""
    b, c, h, w = x.shape
    grouped = x.reshape((b, groups, c // groups * h * w))
    centred = grouped - grouped.mean([2]).broadcast(grouped, [2])
    scale = 1 / jt.sqrt((centred * centred).mean([2]) + EPSILON)
    normal = (centred * scale.broadcast(grouped, [2])).reshape(x.shape)
    return normal * weight.broadcast(x, [0, 2, 3]) + bias.broadcast(x, [0, 2, 3])
