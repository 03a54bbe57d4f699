"""Evaluation as a whole: exact, deterministic, the same for any sharding, in bounded memory."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from segnext.data.catalog import create_dataset
from segnext.data.datasets import Dataset, Sample
from segnext.data.settings import InferenceSettings
from segnext.errors import DataError
from segnext.evaluation.evaluator import EvaluationResult, evaluate, merge
from tests.evaluation.fakes import FakeDataset, FakeModel

SETTINGS = InferenceSettings(scale=None, size_divisor=1)


def run(model: FakeModel, dataset: Dataset, **changes: object) -> EvaluationResult:
    options: dict[str, object] = {"settings": SETTINGS, "workers": 0} | changes
    return evaluate(model, dataset, **options)  # type: ignore[arg-type]


def plain_numpy_scores(pairs: Sequence[tuple[NDArray[np.int32], NDArray[np.uint8]]], classes: int) -> tuple:
    """mIoU, mAcc, aAcc as anybody would write them for one long row of pixels."""
    prediction = np.concatenate([p.ravel() for p, _ in pairs])
    label = np.concatenate([g.ravel() for _, g in pairs])
    prediction, label = prediction[label != 255], label[label != 255]
    intersection = np.array([((prediction == k) & (label == k)).sum() for k in range(classes)], float)
    union = np.array([((prediction == k) | (label == k)).sum() for k in range(classes)], float)
    area = np.array([(label == k).sum() for k in range(classes)], float)
    with np.errstate(invalid="ignore"):
        return np.nanmean(intersection / union), np.nanmean(intersection / area), intersection.sum() / area.sum()


def test_scores_of_300_images_equal_a_plain_numpy_computation() -> None:
    pairs: list[tuple[NDArray[np.int32], NDArray[np.uint8]]] = []
    result = run(
        FakeModel(5), FakeDataset(300), on_prediction=lambda _, sample, labels: pairs.append((labels, sample.label))
    )
    expected = plain_numpy_scores(pairs, 5)
    scores = result.scores
    assert result.images == len(pairs) == 300
    np.testing.assert_allclose((scores.mIoU, scores.mAcc, scores.aAcc), expected, rtol=0, atol=1e-12)


@pytest.mark.shared_data
def test_scores_of_300_camvid_images_equal_a_plain_numpy_computation(shared: Path) -> None:
    dataset = create_dataset("camvid", root=shared / "camvid", split="train")
    pairs: list[tuple[NDArray[np.int32], NDArray[np.uint8]]] = []
    result = run(
        FakeModel(11),
        dataset,
        indices=range(300),
        on_prediction=lambda _, sample, labels: pairs.append((labels, sample.label)),
    )
    scores = result.scores
    np.testing.assert_allclose(
        (scores.mIoU, scores.mAcc, scores.aAcc), plain_numpy_scores(pairs, 11), rtol=0, atol=1e-12
    )


def test_the_same_seed_gives_the_same_counts_and_another_draw_gives_others() -> None:
    first, again, other = (run(FakeModel(5, noise=2.0), FakeDataset(6), repeat=repeat) for repeat in (0, 0, 1))
    assert np.array_equal(first.confusion.counts, again.confusion.counts)
    assert not np.array_equal(first.confusion.counts, other.confusion.counts)


def test_two_ranks_merged_equal_one() -> None:
    dataset = FakeDataset(7)
    whole = run(FakeModel(5, noise=2.0), dataset, boundary=True)
    ranks = [run(FakeModel(5, noise=2.0), dataset, boundary=True, indices=range(r, 7, 2)) for r in range(2)]
    joined = merge(ranks, names=whole.per_image.names)
    assert np.array_equal(joined.confusion.counts, whole.confusion.counts)
    assert joined.boundary is not None
    assert whole.boundary is not None
    assert np.array_equal(joined.boundary.counts, whole.boundary.counts)
    assert joined.per_image.names == whole.per_image.names
    assert np.array_equal(joined.per_image.intersection, whole.per_image.intersection)


def test_workers_that_read_ahead_change_nothing() -> None:
    alone, helped = (run(FakeModel(5), FakeDataset(5), workers=workers) for workers in (0, 2))
    assert np.array_equal(alone.per_image.predicted, helped.per_image.predicted)


def test_per_image_counts_add_up_to_the_confusion_matrix() -> None:
    result = run(FakeModel(5), FakeDataset(5))
    totals = result.confusion.totals()
    assert result.per_image.names[3] == "part/image003"
    assert np.array_equal(result.per_image.intersection.sum(0), totals.intersection)
    assert np.array_equal(result.per_image.predicted.sum(0), totals.predicted)
    assert np.array_equal(result.per_image.labelled.sum(0), totals.labelled)


def test_images_of_one_size_share_a_forward_pass() -> None:
    model = FakeModel(5)
    run(model, FakeDataset(8, sizes=[(40, 56)]))
    assert [shape[0] for shape in model.input_shapes] == [4, 4]


def test_progress_counts_up_to_all_images() -> None:
    seen: list[tuple[int, int]] = []
    run(FakeModel(5), FakeDataset(3), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_the_model_trains_on_after_an_evaluation() -> None:
    model = FakeModel(5)
    run(model, FakeDataset(1))
    assert model.is_training()


def test_speed_leaves_the_first_group_out_and_is_unknown_with_one_group() -> None:
    assert math.isnan(run(FakeModel(5), FakeDataset(1)).images_per_second)
    result = run(FakeModel(5), FakeDataset(3))
    assert result.timed_images == 2
    assert result.images_per_second == pytest.approx(2 / result.seconds)


def test_memory_does_not_grow_with_the_number_of_images() -> None:
    def peak(images: int) -> int:
        tracemalloc.start()
        try:
            run(FakeModel(5), FakeDataset(images))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(4)
    few, many = peak(20), peak(120)
    # what is kept per image is a few numbers per class, far below the 6 kB of the smallest image
    assert many - few < 100 * 1500


def test_no_images_are_an_error() -> None:
    with pytest.raises(DataError, match="no images"):
        run(FakeModel(5), FakeDataset(3), indices=[])


class BrokenDataset(FakeDataset):
    def read(self, index: int) -> Sample:
        if index == 2:
            raise DataError("image002.jpg is broken: replace it")
        return super().read(index)


def test_a_broken_image_ends_the_evaluation_by_name_and_leaves_the_model_training() -> None:
    model = FakeModel(5)
    with pytest.raises(DataError, match="image002"):
        run(model, BrokenDataset(4))
    assert model.is_training()
