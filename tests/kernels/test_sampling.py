"""Sampling and the best channel equal their plain-Jittor references."""

from __future__ import annotations

import numpy as np
import pytest

from segnext import backend
from segnext.kernels.sampling import (
    best_channel,
    best_channel_reference,
    bilinear_taps,
    sample,
    sample_reference,
)

jt = backend.start()


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(("source", "target"), [((7, 9), (56, 72)), ((5, 6), (3, 4)), ((1, 1), (4, 5))])
def test_a_strip_of_a_resize_equals_the_reference(
    source: tuple[int, int], target: tuple[int, int], mirrored: bool
) -> None:
    x = jt.array(np.random.default_rng(0).standard_normal((3, *source)).astype(np.float32))
    rows = bilinear_taps(source[0], target[0], start=1, stop=target[0])
    columns = bilinear_taps(source[1], target[1])
    columns = columns.mirrored() if mirrored else columns
    ours, plain = (function(x, rows, columns).numpy() for function in (sample, sample_reference))
    np.testing.assert_allclose(ours, plain, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(5, 3, 7), (1, 2, 2), (19, 33, 40)])
@pytest.mark.parametrize("function", [best_channel, best_channel_reference])
def test_the_best_channel_is_the_first_of_the_largest(function: object, shape: tuple[int, ...]) -> None:
    assert callable(function)
    x = np.random.default_rng(0).integers(0, 4, shape).astype(np.float32)  # many ties
    np.testing.assert_array_equal(function(jt.array(x)).numpy(), x.argmax(0))
