"""What a dataset is, and the one kind that lives in files: pairs of an image and a label map."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from segnext.data.classes import IGNORE_LABEL, ClassTable
from segnext.data.reading import read_image, read_label
from segnext.errors import DataError

__all__ = ["Dataset", "FileDataset", "FilePair", "Sample", "check_labels", "reduce_zero"]

UInt8 = npt.NDArray[np.uint8]


class Sample(NamedTuple):
    """One image with its label map: (H, W, 3) uint8 RGB and (H, W) uint8, 255 = ignore."""

    image: UInt8
    label: UInt8


class Dataset(Protocol):
    """Images with labels by index; picklable, since loader workers get a copy."""

    @property
    def classes(self) -> ClassTable: ...

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """A unique name that stays the same from run to run, such as the path within the split without suffix."""
        ...

    def read(self, index: int) -> Sample:
        """The sample; raises DataError naming file and cure when it is broken or a label value is no class."""
        ...


class FilePair(NamedTuple):
    """Paths of an image and its label map relative to the dataset's root, and the name of the two."""

    name: str
    image: str
    label: str


@dataclass(frozen=True)
class FileDataset:
    """Pairs of files under one root.

    Attributes:
        classes: the meaning of the label values after reduction.
        root: the folder that the pairs' paths start from.
        pairs: the images in their fixed order.
        reduce_zero_label: the files store 0 for "other" and k + 1 for class k.
        cure: what to try when a label value is outside the classes, for the error message.
        unused_labels: how many label files have no image.
    """

    classes: ClassTable
    root: str
    pairs: tuple[FilePair, ...]
    reduce_zero_label: bool = False
    cure: str = ""
    unused_labels: int = 0

    def __len__(self) -> int:
        return len(self.pairs)

    def name(self, index: int) -> str:
        return self.pairs[index].name

    def image_path(self, index: int) -> Path:
        return Path(self.root, self.pairs[index].image)

    def label_path(self, index: int) -> Path:
        return Path(self.root, self.pairs[index].label)

    def read(self, index: int) -> Sample:
        image = read_image(self.image_path(index))
        label = self.read_label(index)
        if image.shape[:2] != label.shape:
            raise DataError(
                f"image {self.image_path(index)} is {image.shape[1]}×{image.shape[0]} (width×height) but its label "
                f"{self.label_path(index)} is {label.shape[1]}×{label.shape[0]}: both must have the same size"
            )
        return Sample(image, label)

    def read_label(self, index: int) -> UInt8:
        """The label map alone, (H, W) uint8, reduced and checked against the classes."""
        path = self.label_path(index)
        stored = read_label(path)
        label = reduce_zero(stored) if self.reduce_zero_label else stored
        # 255 wraps around to 0, so that one maximum tells whether every value is a class or 255
        if (label + np.uint8(1)).max() > len(self.classes):
            outside = np.unique(stored[(label >= len(self.classes)) & (label != IGNORE_LABEL)])
            raise DataError(self._explain_outside(path, [int(value) for value in outside]))
        return label

    def _explain_outside(self, path: Path, values: Sequence[int]) -> str:
        first = 1 if self.reduce_zero_label else 0
        allowed = f"{first} to {first + len(self.classes) - 1}"
        more = f" and {len(values) - 1} more" if len(values) > 1 else ""
        other = "0 (other) or 255 (ignore)" if self.reduce_zero_label else "255 (ignore)"
        return (
            f"label {path} holds the value {values[0]}{more}, which is no class: the {len(self.classes)} classes of "
            f"{self.classes.name!r} take {allowed}, or {other}. {self.cure}".rstrip()
        )


def reduce_zero(stored: UInt8) -> UInt8:
    """Maps stored labels with 0 = other to class indices: 0 -> 255, k -> k - 1, and 255 stays 255."""
    reduced: UInt8 = stored - np.uint8(1)  # 0 wraps around to 255
    if stored.max() == IGNORE_LABEL:
        reduced[stored == IGNORE_LABEL] = IGNORE_LABEL
    return reduced


def check_labels(dataset: Dataset, limit: int | None = 16) -> None:
    """Reads ``limit`` samples spread evenly over the dataset (all for None), so that bad data are found before work.

    Raises:
        DataError: of the first broken sample in dataset order.
    """
    count = len(dataset) if limit is None else min(limit, len(dataset))
    indices = sorted({int(i) for i in np.linspace(0, len(dataset) - 1, count)}) if count else []
    with ThreadPoolExecutor(max_workers=4) as pool:
        futures = [pool.submit(_read_and_forget, dataset, index) for index in indices]
        try:
            for future in futures:
                future.result()
        finally:
            for future in futures:
                future.cancel()


def _read_and_forget(dataset: Dataset, index: int) -> None:
    dataset.read(index)
