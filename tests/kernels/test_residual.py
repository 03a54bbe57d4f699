"""A scaled residual equals its plain-Jittor reference, forward and backward."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from segnext import backend
from segnext.kernels.residual import add_scaled, add_scaled_reference

jt = backend.start()


def computed(function: Any, shape: tuple[int, ...], *, with_shortcut: bool) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    x, branch, shortcut, dy = (rng.standard_normal(shape).astype(np.float32) for _ in range(4))
    keep = rng.integers(0, 2, (3, shape[0])).astype(np.float32) / 0.75
    inputs = [jt.array(array) for array in (x, branch, rng.standard_normal(shape[1]).astype(np.float32))]
    shortcuts = [jt.array(shortcut)] if with_shortcut else []
    y = function(*inputs, jt.array(keep), row=1, shortcut=shortcuts[0] if shortcuts else None)
    inputs += shortcuts
    return [var.numpy() for var in (y, *jt.grad((y * jt.array(dy)).sum(), inputs))]


@pytest.mark.parametrize("shape", [(4, 3, 5, 7), (1, 1, 1, 1), (2, 8, 40, 41)])
@pytest.mark.parametrize("with_shortcut", [False, True])
def test_values_and_gradients_equal_the_reference(shape: tuple[int, ...], with_shortcut: bool) -> None:
    results = (
        computed(function, shape, with_shortcut=with_shortcut) for function in (add_scaled, add_scaled_reference)
    )
    for ours, plain in zip(*results, strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-5)
