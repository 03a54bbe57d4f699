from __future__ import annotations

import numpy as np
import pytest

from segnext import backend
from segnext.kernels.sums import add_bias, channel_sum, mean

jt = backend.start()


@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (1, 8, 1, 1), (3, 1, 40, 300)], ids=lambda s: "x".join(map(str, s)))
def test_sums_equal_numpys(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal(shape).astype("f")
    np.testing.assert_allclose(channel_sum(jt.array(x)).numpy(), x.sum((0, 2, 3)), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(mean(jt.array(x)).numpy(), x.mean(), rtol=1e-4, atol=1e-5)


def test_a_bias_is_added_and_gets_the_sum_of_the_slopes() -> None:
    rng = np.random.default_rng(1)
    x, slopes = (rng.standard_normal((2, 3, 4, 5)).astype("f") for _ in range(2))
    bias = rng.standard_normal(3).astype("f")
    inputs = jt.array(x), jt.array(bias)
    y = add_bias(*inputs)
    dx, dbias = jt.grad((y * jt.array(slopes)).sum(), inputs)
    np.testing.assert_allclose(y.numpy(), x + bias[:, None, None], rtol=1e-6)
    np.testing.assert_array_equal(dx.numpy(), slopes)
    np.testing.assert_allclose(dbias.numpy(), slopes.sum((0, 2, 3)), rtol=1e-5, atol=1e-5)


def test_the_means_slope_is_the_share_of_an_element() -> None:
    x = jt.array(np.arange(6, dtype=np.float32).reshape(2, 3))
    np.testing.assert_allclose(jt.grad(mean(x) * 12, x).numpy(), np.full((2, 3), 2), rtol=1e-6)
