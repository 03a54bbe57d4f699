"""What an inspection of a dataset saw, and what is wrong or doubtful about it, in words with their cure."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from segnext.data.classes import CAMVID, CITYSCAPES, IGNORE_LABEL, PUBLISHED, SHAPES, ClassTable
from segnext.data.reading import suggest_range

__all__ = ["BrokenSample", "DatasetReport", "DeepImages", "UnknownValue", "all_deep", "likely_mistakes"]

Int64 = npt.NDArray[np.int64]

_SUSPICIOUS_SHARE = 0.9
_CLIPPED_SHARE = 0.1  # of deep values
_USED_SHARE = 0.05  # of dataset.image_range


class SampleCounts(NamedTuple):
    """What one sample shows: its number, (height, width), share of ignored pixels 0…1, (K,) pixels per class."""

    number: int
    size: tuple[int, int]
    ignored: float
    class_pixels: npt.NDArray[np.uint32]


class BrokenSample(NamedTuple):
    """A sample that cannot be used, and why."""

    name: str
    message: str


class UnknownValue(NamedTuple):
    """A stored label value that is neither a class nor "ignore"."""

    value: int
    pixels: int
    first_sample: str


class DeepImages(NamedTuple):
    """Images with more than 8 bits.

    Attributes:
        images: how many there are.
        first: the name of one.
        dtype: of their values; a float type only where all have fractions.
        low, high: the lowest and highest value of all that were decoded.
        decoded: values that were looked at.
        outside: values outside ``dataset.image_range``, which become plain black or white.
    """

    images: int
    first: str
    dtype: np.dtype[Any]
    low: float
    high: float
    decoded: int
    outside: int

    def merge(self, other: DeepImages) -> DeepImages:
        """Both together."""
        return DeepImages(
            self.images + other.images,
            self.first,
            min(self.dtype, other.dtype, key=lambda dtype: dtype.kind == "f"),
            min(self.low, other.low),
            max(self.high, other.high),
            self.decoded + other.decoded,
            self.outside + other.outside,
        )

    def describe(self, image_range: tuple[float, float] | None) -> str:
        """How many there are, their range, and what ``dataset.image_range`` makes of it."""
        text = f"{self.images} images have more than 8 bits, {self.first} for one"
        if self.decoded:
            text += f"; their values go from {self.low:g} to {self.high:g}"
        if image_range is None:
            wanted = suggest_range(self.dtype, self.low, self.high)
            return f"{text}: say which range the camera uses, such as 'dataset.image_range={wanted}'"
        low, high = image_range
        return f"{text}; dataset.image_range=[{low:g},{high:g}] makes the first value black and the second white"

    def doubts(self, image_range: tuple[float, float] | None) -> str:
        """Why ``dataset.image_range`` looks wrong; empty where it doesn't."""
        if image_range is None or not self.decoded:
            return ""
        share = self.outside / self.decoded
        if share > _CLIPPED_SHARE:
            return f"{100 * share:.0f} % of the values lie outside of it"
        if self.high - self.low < _USED_SHARE * (image_range[1] - image_range[0]):
            return "all values lie within a small part of it, and every image is nearly of one colour"
        return ""


@dataclass
class DatasetReport:
    """What an inspection saw.

    Attributes:
        classes: the class table the labels were held against.
        size: samples in the dataset.
        inspected: samples looked at, broken ones included.
        unused_labels: label files without an image.
        image_sizes: how many images have each (height, width).
        class_pixels: (K,) pixels of each class.
        class_images: (K,) images that show each class.
        ignored_pixels: pixels whose label is "ignore".
        stored_pixels: (256,) pixels of each value as stored in the files, before any reduction.
        all_ignored: names of samples without a single labelled pixel.
        samples: what each usable sample shows.
        broken: samples that cannot be read, whose label has another size, or whose label is no index map.
        damaged: images that were decoded only in part, with the decoder's complaint.
        label_map, image_range: the settings by which labels and images were read.
        deep: the images with more than 8 bits; None without any.
        unknown_values: label values outside the classes.
        hints: likely mistakes in words, with their cure.
    """

    classes: ClassTable
    size: int
    inspected: int = 0
    unused_labels: int = 0
    image_sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    class_pixels: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))
    class_images: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))
    ignored_pixels: int = 0
    stored_pixels: Int64 = field(default_factory=lambda: np.zeros(256, np.int64))
    all_ignored: list[str] = field(default_factory=list)
    samples: list[SampleCounts] = field(default_factory=list, repr=False)
    broken: list[BrokenSample] = field(default_factory=list)
    unknown_values: list[UnknownValue] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)
    damaged: list[BrokenSample] = field(default_factory=list)
    label_map: dict[int, int] = field(default_factory=dict)
    image_range: tuple[float, float] | None = None
    deep: DeepImages | None = None

    @property
    def never_seen(self) -> list[str]:
        """Names of the classes without a pixel in the inspected samples."""
        return [name for name, pixels in zip(self.classes.names, self.class_pixels, strict=True) if not pixels]

    @property
    def healthy(self) -> bool:
        """Whether training can go ahead: every inspected sample is readable and every label value has a meaning."""
        return not self.broken and not self.unknown_values

    def problems(self, split: str) -> list[str]:
        """Why figures of a training with these labels would mean nothing; empty where they mean something."""
        seen = [name for name, pixels in zip(self.classes.names, self.class_pixels, strict=True) if pixels]
        if len(self.classes) == 1:
            return [
                f"the class table has one class, {self.classes.names[0]}: every prediction is right and the loss is 0; "
                "add a class for everything else, such as background"
            ]
        if self.unknown_values or self.inspected == len(self.broken):
            return []
        if not seen:
            return ["every pixel of every label is ignored, so that there is nothing to compare with" + _map_hint(self)]
        if split == "train" and len(seen) == 1:
            return [f"every labelled pixel is {seen[0]}: there is nothing to tell apart" + _map_hint(self)]
        return []

    def suspicions(self, split: str) -> list[str]:
        """What makes figures doubtful: classes without a label while 255 is ignored, or hardly anything labelled."""
        if self.problems(split):
            return []
        texts = []
        missing = self.never_seen
        if (
            split == "train" and missing and _ignores_255(self) and self.classes not in PUBLISHED.values()
        ):  # there 255 has one known meaning
            names = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
            texts.append(f"no label has the class {names}" + _map_hint(self))
        pixels = int(self.stored_pixels.sum())
        if pixels and self.ignored_pixels > _SUSPICIOUS_SHARE * pixels:
            texts.append(f"{100 * self.ignored_pixels / pixels:.0f} % of all pixels are ignored: is that meant?")
        return texts


def all_deep(reports: Iterable[DatasetReport]) -> DeepImages | None:
    """The images of more than 8 bits in all splits together."""
    parts = [report.deep for report in reports if report.deep is not None]
    return functools.reduce(DeepImages.merge, parts) if parts else None


def _ignores_255(report: DatasetReport) -> bool:
    """Whether pixels are ignored for the value 255 without the user having said so by ``label_map``."""
    return bool(report.stored_pixels[IGNORE_LABEL]) and IGNORE_LABEL not in report.label_map


def _map_hint(report: DatasetReport) -> str:
    if not _ignores_255(report) or not report.never_seen:
        return ""
    k = report.classes.names.index(report.never_seen[0])
    share = 100 * report.stored_pixels[IGNORE_LABEL] / report.stored_pixels.sum()
    return (
        f"; 255 means 'ignore' ({share:.1f} % of the pixels): if it stands for {report.never_seen[0]}, set "
        f"'dataset.label_map={{255: {k}}}'; if ignoring is meant, 'dataset.label_map={{255: 255}}' says so"
    )


def likely_mistakes(report: DatasetReport, reduced: bool) -> Iterator[str]:
    count = len(report.classes)
    stored = {int(value) for value in np.flatnonzero(report.stored_pixels)}
    outside = {entry.value for entry in report.unknown_values}
    own = report.classes not in (CAMVID, CITYSCAPES, SHAPES)  # whose labels have one known meaning
    if report.classes == CAMVID and outside == {count}:
        yield "11 is SegNet's value for unlabelled pixels: store 255 instead"
    elif own and not reduced and outside == {count}:
        yield (
            f"labels go from 0 to {count}, one more than the {count} classes: if 0 means 'other', the zero label is "
            "not reduced; set dataset.reduce_zero_label=true"
        )
    elif report.classes == CITYSCAPES and outside and outside <= set(range(34)):
        yield (
            "labels hold Cityscapes' labelIds (0 to 33) instead of labelTrainIds: run "
            "`python -m runners.prepare dataset=cityscapes dataset.root=…`"
        )
    elif outside:
        yield (
            f"{len(outside)} label values are no class: add the missing classes to the class table; where edges were "
            "smoothed (labels resized bilinearly or saved as JPEG), make the labels anew"
        )
    elif reduced and report.inspected > len(report.broken) and count not in stored and IGNORE_LABEL in stored:
        yield (
            f"labels seem to be reduced already (255 occurs, {count} doesn't): with reduce_zero_label their class 0 is "
            "ignored and all others are shifted by one"
        )
    elif own and not reduced and 0 not in stored and stored - {IGNORE_LABEL} and count > 1:
        yield (
            f"no pixel has the label 0 ({report.classes.names[0]}): if the files count classes from 1, set "
            "dataset.reduce_zero_label=true"
        )
    if report.all_ignored:
        yield f"{len(report.all_ignored)} labels are ignored everywhere, the first is {report.all_ignored[0]}"
