"""What a dataset is, and the one kind that lives in files: pairs of an image and a label map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from segnext.data.classes import IGNORE_LABEL, ClassTable
from segnext.data.reading import (
    StoredLabel,
    decode_image,
    explain_value,
    log_damage,
    orientation_of_label,
    read_stored_label,
    to_uint8,
    turn,
)
from segnext.data.settings import ReadingSettings
from segnext.errors import DataError

__all__ = ["Dataset", "FileDataset", "FilePair", "Sample", "indices_by_colour", "reduce_zero"]

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
        classes: the meaning of the label values after ``label_map`` and reduction.
        root: the folder that the pairs' paths start from.
        pairs: the images in their fixed order.
        reduce_zero_label: the files store 0 for "other" and k + 1 for class k.
        cure: what to try when a label value is outside the classes, for the error message.
        unused_labels: how many label files have no image.
        reading: how the files are read.
    """

    classes: ClassTable
    root: str
    pairs: tuple[FilePair, ...]
    reduce_zero_label: bool = False
    cure: str = ""
    unused_labels: int = 0
    reading: ReadingSettings = field(default_factory=ReadingSettings)

    def __len__(self) -> int:
        return len(self.pairs)

    def name(self, index: int) -> str:
        return self.pairs[index].name

    def image_path(self, index: int) -> Path:
        return Path(self.root, self.pairs[index].image)

    def label_path(self, index: int) -> Path:
        return Path(self.root, self.pairs[index].label)

    def read(self, index: int) -> Sample:
        image_path, label_path = self.image_path(index), self.label_path(index)
        decoded = decode_image(image_path, self.reading)
        log_damage(image_path, decoded.damage)
        stored = read_stored_label(label_path, self.reading)
        orientation = orientation_of_label(
            decoded.header,
            stored.values.shape,
            stored.orientation,
            paths=(image_path, label_path),
            settings=self.reading,
        )
        label = turn(self.to_classes(stored, label_path), orientation)
        require_equal_sizes((image_path, label_path), decoded.pixels.shape[:2], label.shape)
        return Sample(to_uint8(decoded.pixels, image_path, self.reading), label)

    def to_classes(self, stored: StoredLabel, path: Path) -> UInt8:
        """The classes (H, W) that a label file means: its values, mapped, reduced and checked.

        Raises:
            DataError: a value is no class, or the file's palette is not that of the class table.
        """
        values = self.map_values(self.values_by_palette(stored, path), path)
        label = reduce_zero(values) if self.reduce_zero_label else values
        # 255 wraps around to 0, so that one maximum tells whether every value is a class or 255
        if label.size and (label + np.uint8(1)).max() > len(self.classes):
            outside = np.unique(values[(label >= len(self.classes)) & (label != IGNORE_LABEL)])
            raise DataError(self.explain_outside(path, [int(value) for value in outside]))
        return label

    def values_by_palette(self, stored: StoredLabel, path: Path) -> npt.NDArray[np.integer[Any]]:
        """The values, those of a palette file by its colours where the class table has colours of its own."""
        if stored.palette is None or not self.classes.own_palette:
            return stored.values
        first = int(self.reduce_zero_label)
        used = [int(k) for k in np.flatnonzero(np.bincount(stored.values.ravel(), minlength=256))]
        meant = indices_by_colour({k: stored.palette.get(k) for k in used}, self.classes, first, path)
        if all(k == v for k, v in meant.items()):
            return stored.values
        table = np.arange(256, dtype=np.uint8)
        table[list(meant)] = list(meant.values())
        by_colour: UInt8 = table[stored.values]
        return by_colour

    def map_values(self, values: npt.NDArray[np.integer[Any]], path: Path) -> UInt8:
        """Applies ``label_map``; what is still outside 0 … 255 is refused."""
        label_map = self.reading.label_map
        if values.dtype == np.uint8:
            if not label_map:
                return values.astype(np.uint8, copy=False)
            table = np.arange(256, dtype=np.uint8)
            for stored, meant in label_map.items():
                if 0 <= stored <= 255:
                    table[stored] = meant
            looked_up: UInt8 = table[values]
            return looked_up
        mapped = values.copy()
        for stored, meant in label_map.items():
            mapped[values == stored] = meant
        low, high = int(mapped.min()), int(mapped.max())
        if low < 0 or high > 255:
            raise DataError(f"label {path} holds the value {explain_value(low if low < 0 else high)}")
        return mapped.astype(np.uint8)

    def explain_outside(self, path: Path, values: Sequence[int]) -> str:
        first = 1 if self.reduce_zero_label else 0
        allowed = f"{first} to {first + len(self.classes) - 1}"
        more = f" and {len(values) - 1} more" if len(values) > 1 else ""
        other = "0 (other) or 255 (ignore)" if self.reduce_zero_label else "255 (ignore)"
        return (
            f"label {path} holds the value {values[0]}{more}, which is no class: the {len(self.classes)} classes of "
            f"{self.classes.name!r} take {allowed}, or {other}. {self.cure}".rstrip()
        )


def require_equal_sizes(paths: tuple[Path, Path], image: Sequence[int], label: Sequence[int]) -> None:
    """Raises DataError unless image and label, (height, width) each, have the same size."""
    if tuple(image) != tuple(label):
        raise DataError(
            f"image {paths[0]} is {image[1]}×{image[0]} (width×height) but its label {paths[1]} is "
            f"{label[1]}×{label[0]}: both must have the same size"
        )


def indices_by_colour(
    used: dict[int, tuple[int, int, int] | None], classes: ClassTable, first: int, path: Path
) -> dict[int, int]:
    """The value that each used palette index stands for, where the class table says what each colour means.

    A program that saves palette files small may renumber their indices file by file and keeps the colours: then the
    colours are right. 0 (where ``first`` is 1) and 255 need no colour of the table while the others agree with it.

    Args:
        used: the indices that occur, each with its colour.
        first: the value of the table's first class.

    Raises:
        DataError: a colour is no class's, or that of several.
    """
    colours = {k: tuple(int(c) for c in colour) for k, colour in enumerate(classes.palette, start=first)}
    free = ({0} if first else set()) | {IGNORE_LABEL}
    if all(k in free or colours.get(k) == colour for k, colour in used.items()):
        return {k: k for k in used}
    if all(colour == (k, k, k) for k, colour in used.items()):  # grey values, written as a palette
        return {k: k for k in used}
    meant: dict[int, int] = {}
    for k, colour in used.items():
        candidates = [value for value, known in colours.items() if known == colour]
        if len(candidates) != 1:
            text = "none" if colour is None else "#" + bytes(colour).hex()
            raise DataError(
                f"label {path} has a palette that disagrees with the class table {classes.name!r}: the colour of its "
                f"index {k}, {text}, is that of {len(candidates) or 'no'} class{'es' if candidates else ''}. Write the "
                "files' colours as `palette` into the class table; or save the labels as grey PNGs, which have no "
                "palette; or, if every file numbers its classes alike, leave `palette` out of the class table"
            )
        meant[k] = candidates[0]
    return meant


def reduce_zero(stored: UInt8) -> UInt8:
    """Maps stored labels with 0 = other to class indices: 0 -> 255, k -> k - 1, and 255 stays 255."""
    reduced: UInt8 = stored - np.uint8(1)  # 0 wraps around to 255
    if stored.max() == IGNORE_LABEL:
        reduced[stored == IGNORE_LABEL] = IGNORE_LABEL
    return reduced
