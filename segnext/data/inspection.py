"""Is a dataset sound? Looks at every pair before hours are spent on it; `python -m runners.doctor` shows the result."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from segnext.data.classes import ADE, CAMVID, CITYSCAPES, IGNORE_LABEL, SHAPES, ClassTable
from segnext.data.datasets import Dataset, FileDataset, require_equal_sizes
from segnext.data.label_cache import LabelCache
from segnext.data.reading import StoredLabel, decode_image, label_turn, read_header, to_uint8
from segnext.errors import DataError

__all__ = [
    "BrokenSample",
    "DatasetReport",
    "UnknownValue",
    "check_training_data",
    "inspect_dataset",
]

Int = npt.NDArray[np.integer[Any]]
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
        damaged: images that were decoded only in part, with the decoder's complaint.
        label_map: the setting by which the labels were read.
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
    damaged: list[BrokenSample] = field(default_factory=list)
    label_map: dict[int, int] = field(default_factory=dict)

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
        if split == "train" and missing and _ignores_255(self) and self.classes not in _PUBLISHED:
            names = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
            texts.append(f"no label has the class {names}" + _map_hint(self))
        pixels = int(self.stored_pixels.sum())
        if pixels and self.ignored_pixels > _SUSPICIOUS_SHARE * pixels:
            texts.append(f"{100 * self.ignored_pixels / pixels:.0f} % of all pixels are ignored: is that meant?")
        return texts


class _Look(NamedTuple):
    """What one worker thread found out about one sample.

    Attributes:
        size: (height, width); None where the sample cannot be used, for the reason ``error``.
        stored: (256,) pixels of each value, by colour where the class table asks for it, after ``label_map``.
        palette: colours of the indices that a palette file uses.
        damage: what the decoder of the image complained about.
    """

    size: tuple[int, int] | None
    stored: Int64
    error: str = ""
    palette: Mapping[int, tuple[int, int, int]] | None = None
    damage: str = ""


def inspect_dataset(
    dataset: Dataset,
    *,
    limit: int | None = None,
    workers: int = 4,
    decode: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> DatasetReport:
    """Reads samples in parallel and tells what is in them; a broken one is reported, never raised.

    Args:
        limit: at most so many samples, spread evenly over the dataset; None for all.
        workers: threads; decoding leaves Python's lock free.
        decode: False looks at the headers of images alone, and at labels that changed since the last time.
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
    reduced, cache = False, None
    if isinstance(dataset, FileDataset):
        report.unused_labels, reduced = dataset.unused_labels, dataset.reduce_zero_label
        report.label_map = dict(dataset.reading.label_map)
        cache = LabelCache.open(Path(dataset.root))
    unknown: dict[int, UnknownValue] = {}
    palettes = _Palettes()
    for index, look in zip(indices, _look_at_all(dataset, indices, workers, decode, cache), strict=True):
        report.inspected += 1
        _add(report, unknown, dataset.name(index), palettes.compare(dataset, index, look), reduced)
        if progress is not None:
            progress(report.inspected, len(indices))
    if cache is not None:
        cache.save()
    report.unknown_values = [unknown[value] for value in sorted(unknown)]
    report.hints = list(_hints(report, reduced))
    return report


def check_training_data(
    train: Dataset,
    val: Dataset,
    *,
    workers: int = 4,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[str]:
    """Looks at every label file of both splits, and at the headers of their images, before training begins.

    What was read once is known from the cache while size and time of the file stay as they are. Drawn datasets, which
    have no files, need no check.

    Args:
        workers: threads that read.
        progress: called as (split, done, total) after every sample.

    Returns:
        What is suspicious but does not keep training from going on: one line each.

    Raises:
        DataError: a file cannot be used, a label value has no meaning, or the labels teach nothing.
    """
    if not isinstance(train, FileDataset) and not isinstance(val, FileDataset):
        return []
    reports: dict[str, DatasetReport] = {}
    warnings: list[str] = []
    for split, dataset in (("train", train), ("val", val)):

        def step(done: int, total: int, split: str = split) -> None:
            if progress is not None:
                progress(split, done, total)

        report = reports[split] = inspect_dataset(dataset, workers=workers, decode=False, progress=step)
        if report.broken:
            more = f" ({len(report.broken)} such files in {split})" if len(report.broken) > 1 else ""
            raise DataError(report.broken[0].message + more)
        if report.unknown_values and isinstance(dataset, FileDataset):
            first = report.unknown_values[0]
            index = next(i for i in range(len(dataset)) if dataset.name(i) == first.first_sample)
            values = [entry.value for entry in report.unknown_values]
            raise DataError(dataset.explain_outside(dataset.label_path(index), values))
        if problems := report.problems(split):
            raise DataError(f"{split}: {problems[0]}")
        warnings += [f"{split}: {text}" for text in (*report.suspicions(split), *report.hints)]
    return warnings


_PUBLISHED = (ADE, CAMVID, CITYSCAPES, SHAPES)  # 255 has one known meaning there
_SUSPICIOUS_SHARE = 0.9


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


class _Palettes:
    """Notices palette files that number the same colours differently."""

    def __init__(self) -> None:
        self._first: dict[tuple[int, int, int], tuple[int, str]] = {}

    def compare(self, dataset: Dataset, index: int, look: _Look) -> _Look:
        if look.palette is None or dataset.classes.own_palette or len(set(look.palette.values())) < len(look.palette):
            return look
        for k, colour in look.palette.items():
            known, where = self._first.setdefault(colour, (k, dataset.name(index)))
            if known != k:
                return _Look(
                    None,
                    look.stored,
                    f"the palettes of the labels are numbered differently: #{bytes(colour).hex()} is the value {k} "
                    f"here and {known} in {where}; give the colours of the classes as `palette` in the class table, "
                    "and the colours count instead of the values",
                )
        return look


def _look_at_all(
    dataset: Dataset, indices: list[int], workers: int, decode: bool, cache: LabelCache | None
) -> Iterator[_Look]:
    """In order, with a bounded number of samples under way, so that memory stays bounded as well."""
    with ThreadPoolExecutor(max_workers=workers) as pool:
        upcoming = iter(indices)
        running = deque(pool.submit(_look_at, dataset, index, decode, cache) for index in islice(upcoming, 4 * workers))
        while running:
            yield running.popleft().result()
            running.extend(pool.submit(_look_at, dataset, index, decode, cache) for index in islice(upcoming, 1))


def _look_at(dataset: Dataset, index: int, decode: bool, cache: LabelCache | None) -> _Look:
    nothing = np.zeros(256, np.int64)
    try:
        if not isinstance(dataset, FileDataset) or cache is None:
            label = dataset.read(index).label
            return _Look((label.shape[0], label.shape[1]), np.bincount(label.ravel(), minlength=256))
        return _look_at_files(dataset, index, decode, cache)
    except DataError as error:
        return _Look(None, nothing, str(error))


def _look_at_files(dataset: FileDataset, index: int, decode: bool, cache: LabelCache) -> _Look:
    paths, reading = (dataset.image_path(index), dataset.label_path(index)), dataset.reading
    damage = ""
    if decode:
        pixels, header, damage = decode_image(paths[0], reading)
        to_uint8(pixels, paths[0], reading)
    else:
        header = read_header(paths[0], reading)
        if header.extra_bands or (header.deep and reading.image_range is None):
            to_uint8(decode_image(paths[0], reading).pixels, paths[0], reading)  # says what is the matter
    summary = cache.summary(paths[1], reading)
    turned = label_turn(header, summary.shape, summary.orientation, paths=paths, settings=reading)
    image_shape = (header.height, header.width)[:: -1 if (header.orientation or 1) >= 5 else 1]
    label_shape = summary.shape[:: -1 if (turned or 1) >= 5 else 1]
    require_equal_sizes(paths, image_shape, label_shape)
    fits = summary.values[0] >= 0 and summary.values[-1] <= 255
    values: Int = np.array([summary.values]).astype(np.uint8 if fits else np.int64)
    stored = StoredLabel(values, summary.palette, summary.orientation)
    mapped = dataset.map_values(dataset.plain_values(stored, paths[1]), paths[1])
    counts = np.zeros(256, np.int64)
    np.add.at(counts, mapped[0], np.array(summary.counts, np.int64))
    return _Look((image_shape[0], image_shape[1]), counts, palette=summary.palette, damage=damage)


def _add(report: DatasetReport, unknown: dict[int, UnknownValue], name: str, look: _Look, reduced: bool) -> None:
    if look.size is None:
        report.broken.append(BrokenSample(name, look.error))
        return
    if look.damage:
        report.damaged.append(BrokenSample(name, look.damage))
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
