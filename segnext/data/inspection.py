"""Is a dataset sound? Looks at every pair before hours are spent on it; `python -m runners.doctor` shows the result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from segnext.data.classes import CAMVID, CITYSCAPES, IGNORE_LABEL, SHAPES, ClassTable
from segnext.data.datasets import Dataset, FileDataset
from segnext.data.reading import read_image, read_label
from segnext.errors import DataError

__all__ = ["BrokenSample", "DatasetReport", "UnknownValue", "inspect_dataset"]

Int64 = npt.NDArray[np.int64]


class BrokenSample(NamedTuple):
    """A sample that cannot be used, and why."""

    name: str
    message: str


class UnknownValue(NamedTuple):
    """A stored label value that is neither a class nor "ignore"."""

    value: int
    pixels: int
    first_sample: str


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
        broken: samples that cannot be read, whose label has another size, or whose label is no index map.
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
    broken: list[BrokenSample] = field(default_factory=list)
    unknown_values: list[UnknownValue] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)

    @property
    def never_seen(self) -> list[str]:
        """Names of the classes without a pixel in the inspected samples."""
        return [name for name, pixels in zip(self.classes.names, self.class_pixels, strict=True) if not pixels]

    @property
    def healthy(self) -> bool:
        """Whether training can go ahead: every inspected sample is readable and every label value has a meaning."""
        return not self.broken and not self.unknown_values


class _Look(NamedTuple):
    """What one worker thread found out about one sample."""

    size: tuple[int, int] | None
    stored: Int64
    error: str | None


def inspect_dataset(
    dataset: Dataset,
    *,
    limit: int | None = None,
    workers: int = 4,
    progress: Callable[[int, int], None] | None = None,
) -> DatasetReport:
    """Reads samples in parallel and tells what is in them; a broken one is reported, never raised.

    Args:
        limit: at most so many samples, spread evenly over the dataset; None for all.
        workers: threads; decoding leaves Python's lock free.
        progress: called as (done, total) after every sample, from the calling thread.
    """
    count = len(dataset) if limit is None else min(limit, len(dataset))
    indices = sorted({int(i) for i in np.linspace(0, len(dataset) - 1, count)}) if count else []
    names = dataset.classes.names
    report = DatasetReport(
        dataset.classes,
        size=len(dataset),
        class_pixels=np.zeros(len(names), np.int64),
        class_images=np.zeros(len(names), np.int64),
    )
    reduced = False
    if isinstance(dataset, FileDataset):
        report.unused_labels, reduced = dataset.unused_labels, dataset.reduce_zero_label
    unknown: dict[int, UnknownValue] = {}
    for index, look in zip(indices, _look_at_all(dataset, indices, workers), strict=True):
        report.inspected += 1
        _add(report, unknown, dataset.name(index), look, reduced)
        if progress is not None:
            progress(report.inspected, len(indices))
    report.unknown_values = [unknown[value] for value in sorted(unknown)]
    report.hints = list(_hints(report, reduced))
    return report


def _look_at_all(dataset: Dataset, indices: list[int], workers: int) -> Iterator[_Look]:
    """In order, with a bounded number of samples under way, so that memory stays bounded as well."""
    with ThreadPoolExecutor(max_workers=workers) as pool:
        upcoming = iter(indices)
        running = [pool.submit(_look_at, dataset, index) for index in islice(upcoming, 2 * workers)]
        while running:
            yield running.pop(0).result()
            running.extend(pool.submit(_look_at, dataset, index) for index in islice(upcoming, 1))


def _look_at(dataset: Dataset, index: int) -> _Look:
    nothing = np.zeros(256, np.int64)
    try:
        if not isinstance(dataset, FileDataset):
            label = dataset.read(index).label
            return _Look((label.shape[0], label.shape[1]), np.bincount(label.ravel(), minlength=256), None)
        image_path, label_path = dataset.image_path(index), dataset.label_path(index)
        image, label = read_image(image_path), read_label(label_path)
        if image.shape[:2] != label.shape:
            sizes = [f"{array.shape[1]}×{array.shape[0]}" for array in (image, label)]
            return _Look(None, nothing, f"image {image_path} is {sizes[0]}, its label {label_path} {sizes[1]}")
    except DataError as error:
        return _Look(None, nothing, str(error))
    return _Look((label.shape[0], label.shape[1]), np.bincount(label.ravel(), minlength=256), None)


def _add(report: DatasetReport, unknown: dict[int, UnknownValue], name: str, look: _Look, reduced: bool) -> None:
    if look.size is None:
        report.broken.append(BrokenSample(name, look.error or ""))
        return
    report.image_sizes[look.size] += 1
    report.stored_pixels += look.stored
    first = int(reduced)
    end = first + len(report.classes)
    pixels = look.stored[first:end]
    report.class_pixels += pixels
    report.class_images += pixels > 0
    ignored = int(look.stored[IGNORE_LABEL]) + (int(look.stored[0]) if reduced else 0)
    report.ignored_pixels += ignored
    if ignored == look.stored.sum():
        report.all_ignored.append(name)
    for value in np.flatnonzero(look.stored[end:IGNORE_LABEL]) + end:
        known = unknown.get(int(value), UnknownValue(int(value), 0, name))
        unknown[int(value)] = known._replace(pixels=known.pixels + int(look.stored[value]))


def _hints(report: DatasetReport, reduced: bool) -> Iterator[str]:
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
