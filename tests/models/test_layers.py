"""Normalisation, drop path and dropout as the official implementation has them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from segnext import backend
from segnext.models.layers import BatchNorm, Dropout2d
from segnext.models.mscan import drop_path_factors
from segnext.models.noise import Noise

jt = backend.start()


def test_the_running_variance_is_unbiased() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 2, 5)).astype("f")
    norm = BatchNorm(3)
    norm.train()
    norm(jt.array(x)).sync()
    np.testing.assert_allclose(norm.running_var.numpy(), 0.9 + 0.1 * x.var((0, 2, 3)) * 20 / 19, rtol=1e-5)
    np.testing.assert_allclose(norm.running_mean.numpy(), 0.1 * x.mean((0, 2, 3)), rtol=1e-4, atol=1e-6)


def test_batch_normalisation_survives_a_mean_far_above_the_deviation() -> None:
    x = 300 + 0.1 * np.random.default_rng(0).standard_normal((2, 3, 8, 8))
    norm = BatchNorm(3)
    norm.train()
    assert norm(jt.array(x.astype("f"))).numpy().std() == pytest.approx(1, abs=0.01)


def test_evaluation_uses_and_keeps_the_running_statistics() -> None:
    norm = BatchNorm(2)
    norm.running_mean.assign(np.array([1, 2], "f"))
    norm.running_var.assign(np.array([4, 9], "f"))
    norm.eval()
    y = norm(jt.ones((1, 2, 1, 1)) * 5).numpy()
    np.testing.assert_allclose(y[0, :, 0, 0], [2, 1], rtol=1e-5)
    np.testing.assert_array_equal(norm.running_mean.numpy(), [1, 2])


def _layer_and_draws(kind: Any, rate: float, batch: int) -> tuple[Any, Noise]:
    noise = Noise()
    layer = kind(rate, noise)
    layer.train()
    noise.seed(range(batch))
    noise.start(batch, training=True)
    return layer, noise


def test_drop_path_drops_branches_of_images_and_scales_the_others() -> None:
    noise = Noise()
    noise.seed(range(2000))
    noise.start(2000, training=True)
    factors = drop_path_factors([0.0, 0.25], 2000, noise)
    assert (factors[:2] == 1).all()
    for branch in factors[2:]:
        assert set(np.unique(branch)) == {0, np.float32(1 / 0.75)}
        assert (branch > 0).mean() == pytest.approx(0.75, abs=0.03)
    assert not np.array_equal(factors[2], factors[3])


def test_dropout_drops_whole_channels_and_scales_the_others() -> None:
    layer, _ = _layer_and_draws(Dropout2d, 0.1, 20)
    y = layer(jt.ones((20, 100, 2, 2))).numpy().reshape(2000, 4)
    assert (y == y[:, :1]).all()
    assert set(np.unique(y)) == {0, np.float32(1 / 0.9)}
    assert (y[:, 0] > 0).mean() == pytest.approx(0.9, abs=0.03)


def test_evaluation_drops_nothing() -> None:
    layer, _ = _layer_and_draws(Dropout2d, 0.5, 4)
    layer.eval()
    assert (layer(jt.ones((4, 8, 1, 1))).numpy() == 1).all()
    assert (drop_path_factors([0.5], 4, None) == 1).all()
