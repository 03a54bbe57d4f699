"""Mean boundary IoU: the IoU of the thin bands along the contours (Cheng et al., "Boundary IoU", CVPR 2021).

A pixel belongs to the boundary band of its class when a pixel of another class, or the outside of the image,
is at most d pixels away (square neighbourhood, as the paper's repeated 3x3 erosion gives), d = 2 % of the
image diagonal. Because the classes of one map exclude each other, one minimum and one maximum filter find the
bands of all classes at once. Ignored pixels (label 255) are neither counted nor make a contour: both filters
treat them as neutral.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from segnext.data.classes import IGNORE_LABEL
from segnext.errors import DataError
from segnext.evaluation.metrics import Counts, scores_from_counts

__all__ = ["BoundaryIoU", "boundary_band"]


class BoundaryIoU:
    """Streams label maps and sums intersections and areas of the boundary bands per class, in int64.

    Args:
        num_classes: number of classes K, at most 255.
        ratio: half width of the band as a fraction of the image diagonal (the paper: 0.02).
    """

    def __init__(self, num_classes: int, *, ratio: float = 0.02) -> None:
        if not 1 <= num_classes <= IGNORE_LABEL:
            raise DataError(f"num_classes is {num_classes}: boundary IoU counts 1 to {IGNORE_LABEL} classes")
        self.num_classes = num_classes
        self.ratio = ratio
        self.counts = np.zeros((3, num_classes), np.int64)  # intersection, predicted, labelled

    def update(self, prediction: NDArray[np.integer[Any]], label: NDArray[np.uint8]) -> None:
        """Adds one image; both maps are (H, W), the label uint8 with 255 = ignore."""
        if prediction.shape != label.shape or label.ndim != 2:
            raise DataError(f"prediction {prediction.shape} and label {label.shape} must be (H, W) of one size")
        k = self.num_classes
        valid = label != IGNORE_LABEL
        # Class numbers outside the classes (255 too) become one foreign class: K fits uint8.
        predicted = np.where((prediction >= 0) & (prediction < k), prediction, k).astype(np.uint8)
        labelled = np.minimum(label, k).astype(np.uint8)
        distance = max(1, round(self.ratio * math.hypot(*label.shape)))
        predicted_band = boundary_band(predicted, valid=valid, distance=distance)
        labelled_band = boundary_band(labelled, valid=valid, distance=distance)
        both = predicted_band & labelled_band & (predicted == labelled)
        for row, values in enumerate((labelled[both], predicted[predicted_band], labelled[labelled_band])):
            self.counts[row] += np.bincount(values, minlength=k + 1)[:k]

    def merge(self, other: BoundaryIoU) -> None:
        """Adds the counts of ``other``, for example of another rank."""
        if other.num_classes != self.num_classes or other.ratio != self.ratio:
            raise DataError("cannot merge boundary counts of other classes or another band width")
        self.counts += other.counts

    def scores(self) -> tuple[float, NDArray[np.float64]]:
        """Returns the mean boundary IoU and the (K,) values per class: fractions, nan as in ``Scores``."""
        scores = scores_from_counts(Counts(*self.counts))
        return scores.mIoU, scores.IoU


def boundary_band(classes: NDArray[np.uint8], *, valid: NDArray[np.bool_], distance: int) -> NDArray[np.bool_]:
    """Marks the valid pixels of an (H, W) class map whose class ends within ``distance`` pixels.

    Args:
        classes: (H, W) uint8 class numbers.
        valid: (H, W) False where a pixel neither counts nor makes a contour.
        distance: half width of the band in pixels, at least 1.
    """
    kernel = np.ones((2 * distance + 1, 2 * distance + 1), np.uint8)
    # The border value is the neutral element of each filter; the image border is handled below.
    lowest = cv2.erode(np.where(valid, classes, np.uint8(255)), kernel, borderType=cv2.BORDER_REPLICATE)
    highest = cv2.dilate(np.where(valid, classes, np.uint8(0)), kernel, borderType=cv2.BORDER_REPLICATE)
    band: NDArray[np.bool_] = (lowest != classes) | (highest != classes)
    band[:distance] = band[-distance:] = True
    band[:, :distance] = band[:, -distance:] = True
    return band & valid
