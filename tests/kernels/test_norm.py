"""The norms' kernels equal their plain-Jittor references, forward and backward, and repeat bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from segnext import backend
from segnext.kernels import norm

jt = backend.start()
SHAPES = [(2, 64, 5, 7), (1, 32, 1, 1), (3, 32, 33, 40)]  # one smaller than a vector, one of several pieces
FIXED = [np.linspace(*ends, 64, dtype=np.float32) for ends in ((-1, 1), (0.5, 2))]


def fixed(function: Callable[..., Any], x: Any, weight: Any, bias: Any) -> Any:
    return function(x, weight, bias, *(jt.array(values[: x.shape[1]]) for values in FIXED)).y


def batch(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments).y


def beside(function: Callable[..., Any], x: Any, weight: Any, bias: Any) -> Any:
    """With a residual connection."""
    result = function(x, weight, bias)
    return result.y + 0.5 * result.x


def of_ranks(x: Any, weight: Any, bias: Any) -> Any:
    """As a rank of a run of one does it."""
    return norm.batch_norm(x, weight, bias, average=lambda var: var)


NORMS = {
    "batch": (partial(batch, norm.batch_norm), partial(batch, norm.batch_norm_reference)),
    "fixed": (partial(fixed, norm.fixed_norm), partial(fixed, norm.fixed_norm_reference)),
    "batch beside": (partial(beside, norm.batch_norm), partial(beside, norm.batch_norm_reference)),
    "ranks beside": (partial(beside, of_ranks), partial(beside, norm.batch_norm_reference)),
    "layer": (norm.layer_norm, norm.layer_norm_reference),
    "group": (partial(norm.group_norm, groups=32), partial(norm.group_norm_reference, groups=32)),
}


def computed(function: Callable[..., Any], shape: tuple[int, ...], offset: float = 0.5) -> list[np.ndarray]:
    """Values, and the gradients of x, weight and bias."""
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
    weight, bias = (rng.standard_normal(shape[1]).astype(np.float32) for _ in range(2))
    inputs = [jt.array(array) for array in (x + np.float32(offset), weight, bias)]
    y = function(*inputs)
    return [var.numpy() for var in (y, *jt.grad((y * jt.array(dy)).sum(), inputs))]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NORMS)
def test_values_and_gradients_equal_the_reference(name: str, shape: tuple[int, ...]) -> None:
    ours, reference = (computed(function, shape) for function in NORMS[name])
    for mine, plain in zip(ours, reference, strict=True):
        np.testing.assert_allclose(mine, plain, rtol=1e-4, atol=2e-4 * max(1, float(np.abs(plain).max())))


@pytest.mark.parametrize("name", ["batch", "batch beside", "layer", "group"])
def test_the_gradient_is_the_slope_of_the_values(name: str) -> None:
    function, rng = NORMS[name][0], np.random.default_rng(1)
    x, direction, dy = (rng.standard_normal((2, 32, 3, 4)).astype(np.float32) for _ in range(3))
    weight, bias = jt.array(rng.standard_normal(32).astype(np.float32)), jt.zeros(32)

    def loss(step: float) -> float:
        y = function(jt.array(x + np.float32(step) * direction), weight, bias).numpy()
        return float((y.astype(np.float64) * dy).sum())

    var = jt.array(x)
    gradient = jt.grad((function(var, weight, bias) * jt.array(dy)).sum(), var).numpy()
    slope = (loss(1e-2) - loss(-1e-2)) / 2e-2
    assert float((gradient.astype(np.float64) * direction).sum()) == pytest.approx(slope, rel=5e-3, abs=5e-3)


@pytest.mark.parametrize("name", NORMS)
def test_they_repeat_bit_for_bit(name: str) -> None:
    for once, again in zip(*(computed(NORMS[name][0], SHAPES[2]) for _ in range(2)), strict=True):
        np.testing.assert_array_equal(once, again)


def test_a_mean_far_above_the_deviation_leaves_the_deviation() -> None:
    y = computed(NORMS["batch"][0], (2, 32, 16, 16), offset=1e4)[0]
    assert np.abs(y).max() < 100


def test_batch_norm_over_two_ranks_equals_that_of_the_whole_batch() -> None:
    """Each half of the batch plays a rank; what the other one contributes is known from a pass without gradient."""
    rng = np.random.default_rng(0)
    whole = rng.standard_normal((4, 3, 5, 6)).astype(np.float32) + np.arange(4, dtype=np.float32)[:, None, None, None]
    weight, bias = jt.array([1.0, 2.0, 3.0]), jt.array([0.0, 1.0, 2.0])
    expected, _, mean, variance = (var.numpy() for var in norm.batch_norm(jt.array(whole), weight, bias))
    means = [half.mean((0, 2, 3)) for half in (whole[:2], whole[2:])]
    spreads = [half.var((0, 2, 3)) + (m - mean) ** 2 for half, m in zip((whole[:2], whole[2:]), means, strict=True)]
    others = iter([means[1], spreads[1]])
    y, _, joint_mean, joint_variance = norm.batch_norm(
        jt.array(whole[:2]), weight, bias, average=lambda var: (var + jt.array(next(others))) / 2
    )
    np.testing.assert_allclose(joint_mean.numpy(), mean, rtol=1e-5)
    np.testing.assert_allclose(joint_variance.numpy(), variance, rtol=1e-5)
    np.testing.assert_allclose(y.numpy(), expected[:2], rtol=1e-4, atol=1e-5)


def running_after(function: Callable[..., Any], shape: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    x, mean = (jt.array(rng.standard_normal(size).astype(np.float32)) for size in (shape, shape[1]))
    running = norm.Running(mean, jt.ones(shape[1]), momentum=0.1)
    function(x, running)
    return [running.mean.numpy(), running.variance.numpy()]


@pytest.mark.parametrize("shape", [(2, 37, 2, 3), (1, 5, 1, 1)])
def test_running_statistics_equal_the_reference(shape: tuple[int, ...]) -> None:
    ones, zeros, count = jt.ones(shape[1]), jt.zeros(shape[1]), shape[0] * shape[2] * shape[3]

    def within(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda x, running: function(x, ones, zeros, running=running)

    def alone(x: Any, running: norm.Running) -> None:
        running.move(norm.batch_norm(x, ones, zeros)[2:], count)

    expected = running_after(within(norm.batch_norm_reference), shape)
    for function in (within(norm.batch_norm), alone):
        for mine, plain in zip(running_after(function, shape), expected, strict=True):
            np.testing.assert_allclose(mine, plain, rtol=1e-5, atol=1e-6)
