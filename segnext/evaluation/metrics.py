"""Semantic-segmentation scores by exact counting (the rules of the official evaluation, in int64).

The counts follow mmsegmentation's ``intersect_and_union`` as the official SegNeXt uses it:

* a pixel whose label is 255 is removed from prediction and label alike;
* a pixel whose label is none of the classes (and not 255) leaves the label and intersection counts, yet its
  prediction still counts as predicted area, hence lowers the IoU of the predicted class;
* scores come from the sums over the whole data set, never from means over images;
* a class in neither prediction nor label scores nan and is left out of the means; a class that is predicted
  but never labelled scores IoU 0, which counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segnext.data.classes import IGNORE_LABEL
from segnext.errors import DataError

__all__ = ["ConfusionMatrix", "Counts", "PerImageCounts", "Scores", "mean_iou", "scores_from_counts"]

Array = NDArray[np.int64]


@dataclass(frozen=True)
class Scores:
    """Scores as fractions 0…1; nan where nothing could be counted.

    Attributes:
        mIoU: mean of ``IoU`` over the classes that are not nan.
        mAcc: mean of ``Acc`` over the classes that are not nan.
        aAcc: correctly labelled pixels over all labelled pixels.
        IoU: (K,) float64, intersection over union per class.
        Acc: (K,) float64, intersection over labelled pixels per class (recall).
    """

    mIoU: float
    mAcc: float
    aAcc: float
    IoU: NDArray[np.float64]
    Acc: NDArray[np.float64]


@dataclass(frozen=True)
class Counts:
    """Pixels per class, each (K,) int64: both right, predicted, labelled."""

    intersection: Array
    predicted: Array
    labelled: Array

    @property
    def union(self) -> Array:
        """Pixels per class that are predicted or labelled as the class."""
        union: Array = self.predicted + self.labelled - self.intersection
        return union


class ConfusionMatrix:
    """Counts pixels by (label, prediction), exactly and in memory that does not grow with the images.

    ``counts`` is (K+1, K+1) int64: row = label, column = prediction; the last row holds pixels whose label
    is outside the classes (not 255), the last column predictions outside the classes.
    """

    def __init__(self, num_classes: int) -> None:
        if num_classes < 1:
            raise DataError(f"num_classes is {num_classes}: a confusion matrix needs at least one class")
        self.num_classes = num_classes
        self.counts: Array = np.zeros((num_classes + 1, num_classes + 1), np.int64)

    def update(self, prediction: NDArray[np.integer[Any]], label: NDArray[np.integer[Any]]) -> Counts:
        """Adds one image (or any equally shaped pair of integer arrays) and returns the counts of it alone.

        Raises:
            DataError: the shapes differ or a value is not an integer.
        """
        if prediction.shape != label.shape:
            raise DataError(
                f"prediction {prediction.shape} and label {label.shape} differ in size: "
                "predict at the size of the label"
            )
        if prediction.dtype.kind not in "iu" or label.dtype.kind not in "iu":
            raise DataError(
                f"prediction is {prediction.dtype}, label is {label.dtype}: both must be whole class numbers"
            )
        k = self.num_classes
        valid = label != IGNORE_LABEL
        rows = _clip_to_outside(label[valid], k)
        columns = _clip_to_outside(prediction[valid], k)
        fresh = np.bincount(rows * (k + 1) + columns, minlength=(k + 1) ** 2).reshape(k + 1, k + 1)
        self.counts += fresh
        return _count(fresh)

    def merge(self, other: ConfusionMatrix) -> None:
        """Adds the counts of ``other``, for example of another rank."""
        if other.num_classes != self.num_classes:
            raise DataError(f"cannot merge confusion matrices of {self.num_classes} and {other.num_classes} classes")
        self.counts += other.counts

    @property
    def matrix(self) -> Array:
        """(K, K) int64, row = label, column = prediction, pixels inside the classes only."""
        return self.counts[:-1, :-1]

    def totals(self) -> Counts:
        """The counts of everything added so far."""
        return _count(self.counts)

    def scores(self) -> Scores:
        """The scores of everything added so far."""
        return scores_from_counts(self.totals())


def scores_from_counts(counts: Counts) -> Scores:
    """Turns pixel counts into scores (IoU = I/U, Acc = I/label, aAcc = ΣI/Σlabel, means without nan)."""
    iou = _divide(counts.intersection, counts.union)
    acc = _divide(counts.intersection, counts.labelled)
    labelled = int(counts.labelled.sum())
    return Scores(
        mIoU=_nanmean(iou),
        mAcc=_nanmean(acc),
        aAcc=int(counts.intersection.sum()) / labelled if labelled else float("nan"),
        IoU=iou,
        Acc=acc,
    )


def mean_iou(intersection: NDArray[Any], union: NDArray[Any]) -> NDArray[np.float64]:
    """(N,) the mean IoU of each row of (N, K) counts; classes with an empty union are left out, nan without any."""
    known = union > 0
    sums = np.divide(intersection, union, out=np.zeros(union.shape), where=known).sum(axis=1)
    return np.divide(sums, known.sum(axis=1), out=np.full(len(sums), np.nan), where=known.any(axis=1))


def _clip_to_outside(values: NDArray[np.integer[Any]], num_classes: int) -> Array:
    """Class numbers as int64, with everything outside 0…K-1 (negative too) turned into K."""
    wide = values.astype(np.int64)
    wide[(wide < 0) | (wide > num_classes)] = num_classes
    return wide


def _count(counts: Array) -> Counts:
    return Counts(
        intersection=np.diagonal(counts)[:-1].copy(),
        predicted=counts[:, :-1].sum(axis=0),
        labelled=counts[:-1, :].sum(axis=1),
    )


def _divide(numerator: Array, denominator: Array) -> NDArray[np.float64]:
    out = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=out, where=denominator > 0)
    return out


def _nanmean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


@dataclass(frozen=True)
class PerImageCounts:
    """Pixel counts of N images, for a paired comparison of two evaluations.

    Attributes:
        names: those of the dataset.
        intersection, predicted, labelled: (N, K) uint32 pixels.
    """

    names: tuple[str, ...]
    intersection: NDArray[np.uint32]
    predicted: NDArray[np.uint32]
    labelled: NDArray[np.uint32]

    @property
    def num_classes(self) -> int:
        return self.intersection.shape[1]

    @property
    def union(self) -> Array:
        """(N, K) pixels that are predicted or labelled as the class."""
        union: Array = self.predicted.astype(np.int64) + self.labelled - self.intersection
        return union

    def totals(self) -> Counts:
        """The counts of all images together."""
        return Counts(*(x.sum(axis=0, dtype=np.int64) for x in (self.intersection, self.predicted, self.labelled)))

    @classmethod
    def stack(cls, names: Sequence[str], counts: Sequence[Counts], *, num_classes: int) -> PerImageCounts:
        """Joins the counts of single images."""

        def rows(part: str) -> NDArray[np.uint32]:
            return np.array([getattr(c, part) for c in counts], np.uint32).reshape(-1, num_classes)

        return cls(tuple(names), rows("intersection"), rows("predicted"), rows("labelled"))

    @classmethod
    def join(cls, parts: Sequence[PerImageCounts]) -> PerImageCounts:
        """Joins the parts of several ranks, in the order given."""
        names = tuple(name for part in parts for name in part.names)
        return cls(
            names,
            np.concatenate([part.intersection for part in parts]),
            np.concatenate([part.predicted for part in parts]),
            np.concatenate([part.labelled for part in parts]),
        )

    def mIoU(self) -> NDArray[np.float64]:
        """(N,) the mean IoU of the classes that each image shows or is given; nan without any."""
        return mean_iou(self.intersection, self.union)

    def in_order(self, names: Sequence[str]) -> PerImageCounts:
        """The counts of the images called ``names``, in that order."""
        position = {name: i for i, name in enumerate(self.names)}
        order = [position[name] for name in names]
        return PerImageCounts(
            tuple(self.names[i] for i in order),
            self.intersection[order],
            self.predicted[order],
            self.labelled[order],
        )

    def save(self, path: str | Path) -> None:
        """Writes a compressed ``.npz``."""
        np.savez_compressed(
            path,
            names=np.array(self.names, dtype=np.str_),
            intersection=self.intersection,
            predicted=self.predicted,
            labelled=self.labelled,
        )

    @classmethod
    def load(cls, path: str | Path) -> PerImageCounts:
        """Reads what ``save`` wrote; raises DataError when the file is something else."""
        try:
            with np.load(path, allow_pickle=False) as file:
                names = tuple(str(name) for name in file["names"])
                counts = [file[part] for part in ("intersection", "predicted", "labelled")]
            if any(c.shape != (len(names), counts[0].shape[-1]) or c.dtype != np.uint32 for c in counts):
                raise ValueError("its tables do not fit together")
            return cls(names, *counts)
        except Exception as error:  # a damaged archive makes zipfile and NumPy raise nearly anything
            raise DataError(
                f"{path} is not a file of per-image scores ({error}): evaluate again to write one"
            ) from error
