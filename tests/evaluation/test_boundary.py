"""Boundary IoU against hand-worked bands and against the paper's per-class erosion."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from segnext.evaluation.boundary import BoundaryIoU, boundary_band


def per_class_erosion(prediction: np.ndarray, label: np.ndarray, classes: int) -> tuple[list[int], list[int]]:
    """The definition of the paper: mask minus its d-fold 3x3 erosion with zeros outside, class by class."""
    distance = max(1, round(0.02 * math.hypot(*label.shape)))

    def band(mask: np.ndarray) -> np.ndarray:
        padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        return mask & (cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=distance)[1:-1, 1:-1] == 0)

    bands = [(band(prediction == k), band(label == k)) for k in range(classes)]
    return [int((p & q).sum()) for p, q in bands], [int((p | q).sum()) for p, q in bands]


def test_the_band_is_one_pixel_wide_on_each_side_of_a_contour_and_along_the_image_border() -> None:
    classes = np.zeros((5, 9), np.uint8)
    classes[:, 6:] = 1
    band = boundary_band(classes, valid=np.ones((5, 9), bool), distance=1)
    assert band[2].tolist() == [True, False, False, False, False, True, True, False, True]
    assert band[0].all()
    assert band[-1].all()


def test_intersections_and_unions_equal_the_definition_class_by_class() -> None:
    rng = np.random.default_rng(3)
    label = cv2.resize(rng.integers(0, 5, (7, 9)).astype(np.uint8), (180, 140), interpolation=cv2.INTER_NEAREST)
    prediction = np.roll(label, (3, -5), (0, 1))
    boundary = BoundaryIoU(5)
    boundary.update(prediction, label)
    intersection, predicted, labelled = boundary.counts
    expected_intersection, expected_union = per_class_erosion(prediction, label, 5)
    assert intersection.tolist() == expected_intersection
    assert (predicted + labelled - intersection).tolist() == expected_union


def test_an_ignored_region_makes_no_contour_and_is_not_counted() -> None:
    label = np.zeros((100, 100), np.uint8)
    label[40:60, 40:60] = 255
    prediction = np.zeros((100, 100), np.int64)
    prediction[45:55, 45:55] = 1  # hidden under the ignored region
    boundary = BoundaryIoU(2)
    boundary.update(prediction, label)
    # d = round(0.02 * 141.4) = 3: only the frame of the image is a contour
    assert boundary.counts[:, 0].tolist() == [100 * 100 - 94 * 94] * 3
    assert boundary.counts[:, 1].tolist() == [0, 0, 0]
    mean, per_class = boundary.scores()
    assert mean == 1.0
    assert np.isnan(per_class[1])


def test_a_shifted_contour_lowers_boundary_iou_far_more_than_iou() -> None:
    label = np.zeros((200, 200), np.uint8)
    label[50:150, 50:150] = 1
    boundary = BoundaryIoU(2)
    boundary.update(np.roll(label, 4, axis=1), label)
    # d = 6: band 100² - 88² = 2256; both bands 96·100 - 88·92 = 1504; the plain IoU would be 96/104 = 0.92
    assert boundary.counts[:, 1].tolist() == [1504, 2256, 2256]
    assert boundary.scores()[1][1] == 0.5


def test_merging_adds_the_counts() -> None:
    label = np.zeros((50, 50), np.uint8)
    left, right = BoundaryIoU(1), BoundaryIoU(1)
    left.update(label, label)
    right.update(label, label)
    left.merge(right)
    assert left.counts.tolist() == (2 * right.counts).tolist()


def test_class_numbers_beyond_uint8_are_not_wrapped() -> None:
    label = np.zeros((20, 20), np.uint8)
    boundary = BoundaryIoU(2)
    boundary.update(np.full((20, 20), 256), label)
    assert boundary.scores()[0] == pytest.approx(0.0)
