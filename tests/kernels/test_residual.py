"""A scaled residual equals its plain-Jittor reference, forward and backward."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from segnext import backend
from segnext.kernels.residual import add_scaled, add_scaled_reference

jt = backend.start()


def computed(function: Any, shape: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    x, branch, dy = (rng.standard_normal(shape).astype(np.float32) for _ in range(3))
    keep = rng.integers(0, 2, (3, shape[0])).astype(np.float32) / 0.75
    inputs = [jt.array(array) for array in (x, branch, rng.standard_normal(shape[1]).astype(np.float32))]
    y = function(*inputs, jt.array(keep), row=1)
    return [var.numpy() for var in (y, *jt.grad((y * jt.array(dy)).sum(), inputs))]


@pytest.mark.parametrize("shape", [(4, 3, 5, 7), (1, 1, 1, 1), (2, 8, 40, 41)])
def test_values_and_gradients_equal_the_reference(shape: tuple[int, ...]) -> None:
    for ours, plain in zip(computed(add_scaled, shape), computed(add_scaled_reference, shape), strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-5)
