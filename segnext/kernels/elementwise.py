"""What happens between convolutions, elementwise: computed in float32, and kept for the backward pass as it came.

Jittor's own activations compare half types with float32 constants, which does not compile, and keep several maps. And
what it fuses with its neighbours becomes another operator beside each of them: on the CPU, each function here is one
operator forward and one backward. On CUDA they are plain, and fused with the casts around them.
"""

from __future__ import annotations

import math
import operator
from functools import reduce
from pathlib import Path

from segnext.backend import Function, Var, jt
from segnext.kernels.cast import cast

__all__ = ["add", "gelu", "multiply", "relu"]

_HEADER = "".join(
    Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("each.h", "functions.h", "elementwise.h")
)


def gelu(x: Var) -> Var:
    """x·Φ(x) with Φ the normal distribution function (Hendrycks and Gimpel, 2016), exact, of any shape."""
    return _Gelu.apply(x)


def relu(x: Var) -> Var:
    """max(x, 0), of any shape; its slope at 0 is 0."""
    return _Relu.apply(x)


def multiply(x: Var, y: Var) -> Var:
    """x·y of two arrays of the same shape and type."""
    return _Multiply.apply(x, y)


def add(*parts: Var) -> Var:
    """The sum of arrays of the same shape and type, rounded once."""
    wide = (cast(part, "float32") for part in parts)
    return cast(reduce(operator.add, wide), parts[0].dtype)


def _each(name: str, *arrays: Var, results: int = 1) -> tuple[Var, ...]:
    """The functor ``name`` of elementwise.h over float32 arrays of one shape, in the order of its members."""
    members = [*(f"in{i}_p" for i in range(len(arrays))), *(f"out{i}_p" for i in range(results))]
    source = f"segnext::launch(segnext::{name}{{{', '.join(members)}}}, in0->num);\n"
    shapes = [arrays[0].shape] * results
    wide = [cast(array, "float32") for array in arrays]
    return tuple(jt.code(shapes, ["float32"] * results, wide, cpu_header=_HEADER, cpu_src=source))


class _Gelu(Function):
    def execute(self, x: Var) -> Var:
        self.saved = x
        if not jt.flags.use_cuda:
            return cast(_each("Gelu", x)[0], x.dtype)
        wide = cast(x, "float32")
        return cast(wide * _distribution(wide), x.dtype)

    def grad(self, dy: Var) -> Var:
        if not jt.flags.use_cuda:
            return cast(_each("GeluGradient", self.saved, dy)[0], self.saved.dtype)
        x = cast(self.saved, "float32")
        density = jt.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
        return cast(cast(dy, "float32") * (_distribution(x) + x * density), self.saved.dtype)


def _distribution(x: Var) -> Var:
    return 0.5 * (jt.erf(x / math.sqrt(2)) + 1)


class _Relu(Function):
    def execute(self, x: Var) -> Var:
        positive = jt.maximum(cast(x, "float32"), 0.0) if jt.flags.use_cuda else _each("Relu", x)[0]
        self.saved = cast(positive, x.dtype)
        return self.saved

    def grad(self, dy: Var) -> Var:
        if not jt.flags.use_cuda:
            return cast(_each("ReluGradient", self.saved, dy)[0], self.saved.dtype)
        return cast(cast(dy, "float32") * (cast(self.saved, "float32") > 0), self.saved.dtype)


class _Multiply(Function):
    def execute(self, x: Var, y: Var) -> Var:
        self.saved = x, y
        if not jt.flags.use_cuda:
            return cast(_each("Multiply", x, y)[0], x.dtype)
        return _multiply(x, y)

    def grad(self, dz: Var) -> tuple[Var, ...]:
        x, y = self.saved
        if not jt.flags.use_cuda:
            return tuple(cast(each, x.dtype) for each in _each("MultiplyGradient", x, y, dz, results=2))
        return _multiply(dz, y), _multiply(dz, x)


def _multiply(x: Var, y: Var) -> Var:
    return cast(cast(x, "float32") * cast(y, "float32"), x.dtype)
