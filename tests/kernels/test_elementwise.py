"""GELU and ReLU equal their definitions, forward and backward, and round once in narrow types."""

from __future__ import annotations

import math

import numpy as np
import pytest

from segnext import backend
from segnext.kernels.elementwise import gelu, relu

jt = backend.start()
X = np.linspace(-6, 6, 241, dtype=np.float32)  # with 0


def expected(name: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values and slopes in float64."""
    x = x.astype(np.float64)
    if name == "relu":
        return np.maximum(x, 0), (x > 0).astype(float)
    distribution = np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in x])
    return x * distribution, distribution + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


@pytest.mark.parametrize(("dtype", "unit"), [("float32", 2e-7), ("bfloat16", 2.0**-8), ("float16", 2.0**-11)])
@pytest.mark.parametrize("function", [gelu, relu])
def test_values_and_slopes_are_those_of_the_definition(function: object, dtype: str, unit: float) -> None:
    assert callable(function)
    x = jt.array(X)
    narrow = x.cast(dtype)
    y = function(narrow)
    slope = jt.grad(y.float32().sum(), narrow)
    assert (y.dtype, slope.dtype) == (dtype, dtype)
    values, slopes = expected(function.__name__, narrow.float32().numpy())
    np.testing.assert_allclose(y.float32().numpy(), values, rtol=1.01 * unit, atol=1e-6)
    np.testing.assert_allclose(slope.float32().numpy(), slopes, rtol=1.01 * unit, atol=1e-6)
