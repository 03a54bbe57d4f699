"""Strips of full-resolution logits: equal to the whole map in every bit."""

from __future__ import annotations

import numpy as np
import pytest

from segnext import backend
from segnext.evaluation.dense import DenseLogits, strips


def windowed(flipped: bool) -> DenseLogits:
    """Six overlapping 64x64 windows over a 96x128 input."""
    rng = np.random.default_rng(0)
    dense = DenseLogits(96, 128, (64, 64), flipped)
    for top in (0, 32):
        for left in (0, 40, 64):
            logits = rng.standard_normal((3, 8, 8)).astype(np.float32)
            dense.parts.append((top, left, backend.start().array(logits)))
    return dense


@pytest.mark.parametrize("size", [(83, 117), (96, 128), (211, 333)])
@pytest.mark.parametrize("rows", [1, 7, 20])
def test_strips_equal_the_whole_map_bit_for_bit(size: tuple[int, int], rows: int) -> None:
    dense = windowed(flipped=False)
    whole = dense.strip(size, 0, size[0]).numpy()
    assert whole.shape == (3, *size)
    joined = np.concatenate([dense.strip(size, a, b).numpy() for a, b in strips(size[0], rows)], axis=1)
    assert np.array_equal(joined, whole)


@pytest.mark.parametrize("size", [(83, 117), (96, 128)])
def test_a_flipped_input_is_mirrored_back(size: tuple[int, int]) -> None:
    straight, flipped = (windowed(flag).strip(size, 0, size[0]).numpy() for flag in (False, True))
    np.testing.assert_array_equal(flipped[:, :, ::-1], straight)


def test_overlapping_windows_are_averaged_where_they_overlap() -> None:
    jt = backend.start()
    dense = DenseLogits(8, 24, (8, 16))
    dense.parts = [(0, 0, jt.ones((1, 1, 2))), (0, 8, 3 * jt.ones((1, 1, 2)))]
    row = dense.rows(0, 1).numpy()[0, 0].tolist()
    assert row == pytest.approx([1.0] * 8 + [2.0] * 8 + [3.0] * 8, rel=1e-6)


def test_constant_logits_stay_constant_up_to_every_border() -> None:
    dense = DenseLogits(64, 64, (64, 64))
    dense.parts = [(0, 0, 5 * backend.start().ones((1, 8, 8)))]
    assert np.array_equal(dense.strip((100, 31), 0, 100).numpy(), np.full((1, 100, 31), 5, np.float32))
