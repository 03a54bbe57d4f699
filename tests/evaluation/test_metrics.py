"""The scores of semantic segmentation, rule by rule, with figures worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from segnext.errors import DataError
from segnext.evaluation.metrics import ConfusionMatrix


def count(prediction: list[int], label: list[int], *, classes: int) -> ConfusionMatrix:
    matrix = ConfusionMatrix(classes)
    matrix.update(np.array(prediction), np.array(label))
    return matrix


def test_iou_acc_and_their_means_of_two_classes() -> None:
    # class 0: I=2, predicted 3, labelled 2 -> U=3; class 1: I=1, predicted 1, labelled 2 -> U=2
    scores = count([0, 0, 0, 1], [0, 0, 1, 1], classes=2).scores()
    assert scores.IoU.tolist() == [2 / 3, 1 / 2]
    assert scores.Acc.tolist() == [1.0, 1 / 2]
    assert scores.mIoU == pytest.approx(7 / 12, abs=1e-15)
    assert scores.mAcc == 0.75
    assert scores.aAcc == 0.75


def test_a_pixel_with_label_255_is_ignored_on_both_sides() -> None:
    # Without the rule the prediction 1 under 255 would enlarge the union of class 1.
    scores = count([0, 1, 1], [0, 1, 255], classes=2).scores()
    assert scores.IoU.tolist() == [1.0, 1.0]
    assert scores.aAcc == 1.0


def test_a_label_outside_the_classes_leaves_the_label_count_but_its_prediction_counts() -> None:
    # Labels 0, 0, 7 with two classes, all predicted 0: I=2, predicted 3, labelled 2 -> IoU 2/3, Acc 1
    matrix = count([0, 0, 0], [0, 0, 7], classes=2)
    scores = matrix.scores()
    assert scores.IoU[0] == 2 / 3
    assert scores.Acc[0] == 1.0
    assert scores.aAcc == 1.0
    assert matrix.matrix.tolist() == [[2, 0], [0, 0]]


def test_a_prediction_outside_the_classes_still_counts_as_labelled() -> None:
    scores = count([0, 9], [0, 0], classes=2).scores()
    assert scores.IoU[0] == 1 / 2
    assert scores.aAcc == 1 / 2


def test_a_class_in_neither_map_is_nan_and_left_out_of_the_means() -> None:
    scores = count([0, 1], [0, 0], classes=3).scores()
    # class 0: 1/2; class 1: predicted, never labelled -> 0 counts; class 2: absent -> nan
    assert scores.IoU[:2].tolist() == [0.5, 0.0]
    assert math.isnan(scores.IoU[2])
    assert scores.mIoU == 0.25
    assert scores.Acc[0] == 0.5
    assert np.isnan(scores.Acc[1:]).all()
    assert scores.mAcc == 0.5


def test_nothing_counted_gives_nan_not_an_error() -> None:
    scores = count([0, 1], [255, 255], classes=2).scores()
    assert math.isnan(scores.mIoU)
    assert math.isnan(scores.mAcc)
    assert math.isnan(scores.aAcc)


def test_scores_come_from_sums_over_the_data_set_not_from_means_over_images() -> None:
    matrix = ConfusionMatrix(2)
    matrix.update(np.array([0]), np.array([0]))  # IoU of class 0 in this image: 1
    matrix.update(np.array([1, 1, 1]), np.array([0, 0, 1]))  # and here: 0/2
    assert matrix.scores().IoU.tolist() == [1 / 3, 1 / 3]


def test_rows_are_labels_and_columns_are_predictions() -> None:
    assert count([1, 1, 0], [0, 0, 0], classes=2).matrix.tolist() == [[1, 2], [0, 0]]


def test_update_returns_the_counts_of_that_image_alone() -> None:
    matrix = ConfusionMatrix(2)
    matrix.update(np.zeros(5, int), np.zeros(5, int))
    counts = matrix.update(np.array([0, 1, 1]), np.array([0, 0, 5]))
    assert counts.intersection.tolist() == [1, 0]
    assert counts.predicted.tolist() == [1, 2]
    assert counts.labelled.tolist() == [2, 0]
    assert counts.union.tolist() == [2, 2]


def test_counts_stay_exact_where_float32_would_round() -> None:
    matrix = ConfusionMatrix(1)
    matrix.counts[0, 0] = 2**24
    matrix.update(np.zeros(1, int), np.zeros(1, int))
    assert matrix.totals().intersection[0] == 2**24 + 1


def test_uint8_maps_of_150_classes_do_not_overflow() -> None:
    matrix = ConfusionMatrix(150)
    matrix.update(np.full((2, 2), 149, np.uint8), np.full((2, 2), 148, np.uint8))
    assert matrix.matrix[148, 149] == 4


def test_merging_equals_counting_everything_in_one() -> None:
    rng = np.random.default_rng(0)
    pairs = [(rng.integers(0, 4, (9, 7)), rng.integers(0, 6, (9, 7))) for _ in range(4)]
    whole, left, right = ConfusionMatrix(4), ConfusionMatrix(4), ConfusionMatrix(4)
    for number, pair in enumerate(pairs):
        whole.update(*pair)
        (left, right)[number % 2].update(*pair)
    left.merge(right)
    assert np.array_equal(left.counts, whole.counts)


def test_merging_other_classes_is_refused() -> None:
    with pytest.raises(DataError, match="3 and 2 classes"):
        ConfusionMatrix(3).merge(ConfusionMatrix(2))


def test_maps_of_different_size_are_refused() -> None:
    with pytest.raises(DataError, match="differ in size"):
        ConfusionMatrix(2).update(np.zeros((2, 3), int), np.zeros((3, 2), int))


def test_probabilities_instead_of_classes_are_refused() -> None:
    with pytest.raises(DataError, match="float64"):
        ConfusionMatrix(2).update(np.zeros(3), np.zeros(3, int))
