"""The paired bootstrap: certain when it must be, unsure when it must be, and repeatable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segnext.errors import DataError
from segnext.evaluation.compare import compare
from segnext.evaluation.metrics import ConfusionMatrix, PerImageCounts


def evaluation(error_rate: float, *, images: int = 40, seed: int = 1) -> PerImageCounts:
    """Per-image counts of predictions that flip a share of the pixels of two-class maps."""
    labels = np.random.default_rng(0).integers(0, 2, (images, 20, 20))
    flips = np.random.default_rng(seed).random(labels.shape) < error_rate
    matrix = ConfusionMatrix(2)
    counts = [matrix.update(labels[i] ^ flips[i], labels[i]) for i in range(images)]
    return PerImageCounts.stack([f"image{i}" for i in range(images)], counts, num_classes=2)


def test_an_evaluation_compared_with_itself_differs_by_exactly_nothing() -> None:
    result = compare(evaluation(0.1), evaluation(0.1))
    assert (result.difference, result.low, result.high) == (0.0, 0.0, 0.0)
    assert not result.significant
    assert result.better_share == 0.5


def test_a_clear_improvement_has_an_interval_around_the_difference_above_zero() -> None:
    result = compare(evaluation(0.2), evaluation(0.1, seed=2))
    assert 0 < result.low < result.difference < result.high
    assert result.significant
    assert result.better_share == 1.0
    # error rates 0.2 and 0.1 with balanced classes: IoU (1-e)/(1+e) = 0.667 and 0.818
    assert result.difference == pytest.approx(0.9 / 1.1 - 0.8 / 1.2, abs=0.02)


def test_pairing_narrows_the_interval_of_a_difference_that_is_the_same_in_every_image() -> None:
    # Two images of very different difficulty; b repairs the same number of pixels in each.
    def counts(wrong: list[int]) -> PerImageCounts:
        right = np.array([[1000 - w] for w in wrong] * 10, np.uint32)
        area = np.full_like(right, 1000)
        return PerImageCounts(tuple(f"i{k}" for k in range(2 * 10)), right, right, area)

    result = compare(counts([900, 100]), counts([890, 90]))
    assert result.high - result.low < 1e-12
    assert result.difference == pytest.approx(0.01)


def test_the_interval_has_the_width_of_the_exact_standard_error() -> None:
    # One class, every image 100 pixels, b equal to a but for its hits: the mIoU difference is a mean.
    rng = np.random.default_rng(5)
    hits = rng.integers(20, 80, (400, 1)).astype(np.uint32)
    area = np.full((400, 1), 100, np.uint32)
    names = tuple(str(i) for i in range(400))
    full = PerImageCounts(names, area, area, area)
    result = compare(PerImageCounts(names, hits, hits, area), full)
    standard_error = (hits / 100).std() / np.sqrt(400)
    assert result.high - result.low == pytest.approx(2 * 1.96 * standard_error, rel=0.05)


def test_the_same_seed_gives_the_same_interval_whatever_the_order_of_the_images() -> None:
    a, b = evaluation(0.2), evaluation(0.19, seed=2)
    order = np.random.default_rng(0).permutation(len(a.names))
    shuffled = PerImageCounts(
        tuple(a.names[i] for i in order), a.intersection[order], a.predicted[order], a.labelled[order]
    )
    assert compare(a, b, seed=3) == compare(shuffled, b, seed=3)


def test_different_images_are_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"different images .*image39"):
        compare(evaluation(0.1, images=40), evaluation(0.1, images=39))


def test_per_image_counts_survive_the_disk(tmp_path: Path) -> None:
    counts = evaluation(0.1)
    counts.save(tmp_path / "a.npz")
    again = PerImageCounts.load(tmp_path / "a.npz")
    assert again.names == counts.names
    assert compare(counts, again).difference == 0.0


def test_a_file_that_is_no_evaluation_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_text("hello")
    with pytest.raises(DataError, match="not a file of per-image scores"):
        PerImageCounts.load(tmp_path / "a.npz")
