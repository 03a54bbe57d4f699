"""The resize kernels equal plain Jittor, forward and backward."""

from __future__ import annotations

import numpy as np
import pytest

from segnext import backend
from segnext.kernels.resize import resize, resize_reference
from tests.models.numpy_segnext import bilinear

jt = backend.start()

CASES = [
    ((4, 6), (32, 48)),
    ((5, 7), (37, 51)),
    ((1, 1), (3, 4)),
    ((1, 9), (8, 9)),
    ((7, 1), (7, 6)),
    ((12, 20), (5, 7)),
    ((13, 8), (1, 1)),
    ((3, 10), (9, 4)),
]


@pytest.mark.parametrize(("old", "new"), CASES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_values_and_gradients_equal_plain_jittor(old: tuple[int, int], new: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    x = jt.array(rng.standard_normal((2, 3, *old)).astype("f"))
    slope = jt.array(rng.standard_normal((2, 3, *new)).astype("f"))
    results = []
    for function in (resize, resize_reference):
        y = function(x, new)
        results.append((y.numpy(), jt.grad((y * slope).sum(), x, True).numpy()))
    for name, found, expected in zip(("y", "dx"), *results, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-5, err_msg=name)


def test_large_maps_equal_the_definition() -> None:
    x = np.random.default_rng(0).standard_normal((1, 2, 64, 48))
    np.testing.assert_allclose(resize(jt.array(x.astype("f")), (683, 512)).numpy(), bilinear(x, (683, 512)), atol=1e-4)


def test_the_same_size_is_the_same_map() -> None:
    x = jt.ones((1, 1, 3, 4))
    assert resize(x, (3, 4)) is x


def test_other_types_take_the_plain_operators() -> None:
    x = np.random.default_rng(0).standard_normal((1, 2, 3, 4)).astype(np.float16)
    y = resize(jt.array(x), (6, 8))
    assert y.dtype == "float16"
    np.testing.assert_allclose(y.numpy(), bilinear(x.astype("d"), (6, 8)), atol=0.01)
