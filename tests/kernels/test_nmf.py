"""The factorisation kernels equal plain Jittor and the definition, forward and backward."""

from __future__ import annotations

import numpy as np
import pytest

from segnext import backend
from segnext.kernels.nmf import factorise, factorise_reference

jt = backend.start()


def drawn(batch: int, dim: int, pixels: int, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Maps with a third of zeros, as after a ReLU, and bases of unit length."""
    rng = np.random.default_rng(0)
    x = np.maximum(rng.standard_normal((batch, dim, pixels)) + 0.4, 0)
    bases = rng.random((batch, dim, rank))
    return x.astype("f"), (bases / np.linalg.norm(bases, axis=1, keepdims=True)).astype("f")


def definition(x: np.ndarray, bases: np.ndarray, *, steps: int) -> np.ndarray:
    """In float64."""
    x, bases = x.astype(np.float64), bases.astype(np.float64)
    exponential = np.exp(x.swapaxes(1, 2) @ bases)
    coefficients = exponential / exponential.sum(2, keepdims=True)
    for step in range(steps + 1):
        coefficients *= x.swapaxes(1, 2) @ bases / (coefficients @ (bases.swapaxes(1, 2) @ bases) + 1e-6)
        if step < steps:
            bases = bases * (x @ coefficients) / (bases @ (coefficients.swapaxes(1, 2) @ coefficients) + 1e-6)
    return bases @ coefficients.swapaxes(1, 2)


SHAPES = [(2, 32, 24, 4), (1, 7, 5, 3), (3, 40, 1, 16), (2, 64, 150, 17)]


@pytest.mark.parametrize("full", [True, False], ids=["full", "one step"])
@pytest.mark.parametrize("steps", [0, 1, 6])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s)))
def test_values_and_gradients_equal_plain_jittor(shape: tuple[int, ...], steps: int, full: bool) -> None:
    arrays = drawn(*shape)
    slope = jt.array(np.random.default_rng(1).standard_normal(arrays[0].shape).astype("f"))
    results = []
    for function in (factorise, factorise_reference):
        x, bases = (jt.array(array) for array in arrays)
        y = function(x, bases, steps=steps, full_gradient=full)
        results.append((y.numpy(), jt.grad((y * slope).sum(), x, True).numpy()))
    for name, found, expected in zip(("y", "dx"), *results, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max(), err_msg=name)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s)))
def test_the_gradient_through_all_steps_is_the_slope_of_the_definition(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(2)
    x, bases = drawn(*shape)
    slope, direction = rng.standard_normal(x.shape), rng.standard_normal(x.shape) * (x > 0)
    variable = jt.array(x)
    y = factorise(variable, jt.array(bases), steps=6)
    gradient = jt.grad((y * jt.array(slope.astype("f"))).sum(), variable).numpy().astype(np.float64)
    ends = [(definition(x + sign * 1e-5 * direction, bases, steps=6) * slope).sum() for sign in (1, -1)]
    spread = np.sqrt(((gradient * direction) ** 2).sum())
    assert abs((gradient * direction).sum() - (ends[0] - ends[1]) / 2e-5) < 1e-3 * spread


def test_without_gradients_the_values_are_the_same_bits() -> None:
    x, bases = (jt.array(array) for array in drawn(2, 32, 24, 4))
    recorded = factorise(x, bases, steps=3).numpy()
    with jt.no_grad():
        np.testing.assert_array_equal(factorise(x, bases, steps=3).numpy(), recorded)


def test_a_map_of_zeros_stays_zero_and_has_finite_gradients() -> None:
    _, bases = drawn(1, 8, 6, 2)
    x = jt.zeros((1, 8, 6))
    y = factorise(x, jt.array(bases), steps=6)
    assert not y.numpy().any()
    assert np.isfinite(jt.grad(y.sum(), x).numpy()).all()
