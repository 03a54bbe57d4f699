"""What happens between convolutions, elementwise: computed in float32, and kept for the backward pass as it came.

Jittor's own activations compare half types with float32 constants, which does not compile, and keep several maps.
"""

from __future__ import annotations

import math
import operator
from functools import reduce

from segnext.backend import Function, Var, jt
from segnext.kernels.cast import cast

__all__ = ["add", "gelu", "multiply", "relu"]


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


class _Multiply(Function):
    def execute(self, x: Var, y: Var) -> Var:
        self.saved = x, y
        return _multiply(x, y)

    def grad(self, dz: Var) -> tuple[Var, Var]:
        x, y = self.saved
        return _multiply(dz, y), _multiply(dz, x)


def _multiply(x: Var, y: Var) -> Var:
    return cast(cast(x, "float32") * cast(y, "float32"), x.dtype)


class _Gelu(Function):
    def execute(self, x: Var) -> Var:
        self.saved = x
        wide = cast(x, "float32")
        return cast(wide * _distribution(wide), x.dtype)

    def grad(self, dy: Var) -> Var:
        x = cast(self.saved, "float32")
        density = jt.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
        return cast(cast(dy, "float32") * (_distribution(x) + x * density), self.saved.dtype)


class _Relu(Function):
    def execute(self, x: Var) -> Var:
        self.saved = cast(jt.maximum(cast(x, "float32"), 0.0), x.dtype)
        return self.saved

    def grad(self, dy: Var) -> Var:
        return cast(cast(dy, "float32") * (cast(self.saved, "float32") > 0), self.saved.dtype)


def _distribution(x: Var) -> Var:
    return 0.5 * (jt.erf(x / math.sqrt(2)) + 1)
