"""Is a dataset sound? Looks at every pair before hours are spent on it; `python -m runners.doctor` shows the result."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from segnext.data.classes import IGNORE_LABEL
from segnext.data.dataset_report import (
    BrokenSample,
    DatasetReport,
    DeepImages,
    SampleCounts,
    UnknownValue,
    all_deep,
    likely_mistakes,
)
from segnext.data.datasets import Dataset, FileDataset, require_equal_sizes
from segnext.data.headers import read_header
from segnext.data.label_cache import LabelCache
from segnext.data.reading import StoredLabel, decode_image, orientation_of_label, value_range
from segnext.errors import DataError

__all__ = [
    "check_training_data",
    "inspect_dataset",
]

Int = npt.NDArray[np.integer[Any]]
Int64 = npt.NDArray[np.int64]


class _Findings(NamedTuple):
    """What one worker thread found out about one sample.

    Attributes:
        size: (height, width); None where the sample cannot be used, for the reason ``error``.
        stored: (256,) pixels of each value, by colour where the class table asks for it, after ``label_map``.
        palette: colours of the indices that a palette file uses.
        damage: what the decoder of the image complained about.
        deep: of an image with more than 8 bits, its part in ``DatasetReport.deep``.
    """

    size: tuple[int, int] | None
    stored: Int64
    error: str = ""
    palette: Mapping[int, tuple[int, int, int]] | None = None
    damage: str = ""
    deep: DeepImages | None = None


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
        report.label_map, report.image_range = dict(dataset.reading.label_map), dataset.reading.image_range
        cache = LabelCache.open(Path(dataset.root))
    unknown: dict[int, UnknownValue] = {}
    palettes = _Palettes()
    for index, findings in zip(indices, _inspect_samples(dataset, indices, workers, decode, cache), strict=True):
        report.inspected += 1
        _add(report, unknown, index, dataset.name(index), palettes.compare(dataset, index, findings), reduced)
        if progress is not None:
            progress(report.inspected, len(indices))
    if cache is not None:
        cache.save()
    report.unknown_values = [unknown[value] for value in sorted(unknown)]
    report.hints = list(likely_mistakes(report, reduced))
    return report


def check_training_data(
    train: Dataset,
    val: Dataset,
    *,
    workers: int = 4,
    progress: Callable[[str, int, int], None] | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> list[str]:
    """Looks at every label file of both splits, and at the headers of their images, before training begins.

    What was read once is known from the cache while size and time of the file stay as they are. Drawn datasets, which
    have no files, need no check.

    Args:
        workers: threads that read.
        progress: called as (split, done, total) after every sample.
        note: called with what is worth knowing and no cause for doubt.

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
    if deep := all_deep(reports.values()):
        image_range = reports["train"].image_range
        if image_range is None:
            raise DataError(deep.describe(None))
        note(deep.describe(image_range))
    return warnings


class _Palettes:
    """Notices palette files that number the same colours differently."""

    def __init__(self) -> None:
        self._first: dict[tuple[int, int, int], tuple[int, str]] = {}

    def compare(self, dataset: Dataset, index: int, findings: _Findings) -> _Findings:
        if (
            findings.palette is None
            or dataset.classes.own_palette
            or len(set(findings.palette.values())) < len(findings.palette)
        ):
            return findings
        for k, colour in findings.palette.items():
            known, where = self._first.setdefault(colour, (k, dataset.name(index)))
            if known != k:
                return _Findings(
                    None,
                    findings.stored,
                    f"the palettes of the labels are numbered differently: #{bytes(colour).hex()} is the value {k} "
                    f"here and {known} in {where}; give the colours of the classes as `palette` in the class table, "
                    "and the colours count instead of the values",
                )
        return findings


def _inspect_samples(
    dataset: Dataset, indices: list[int], workers: int, decode: bool, cache: LabelCache | None
) -> Iterator[_Findings]:
    """In order, with a bounded number of samples under way, so that memory stays bounded as well."""
    with ThreadPoolExecutor(max_workers=workers) as pool:
        upcoming = iter(indices)
        running = deque(
            pool.submit(_inspect_sample, dataset, index, decode, cache) for index in islice(upcoming, 4 * workers)
        )
        while running:
            yield running.popleft().result()
            running.extend(pool.submit(_inspect_sample, dataset, index, decode, cache) for index in islice(upcoming, 1))


def _inspect_sample(dataset: Dataset, index: int, decode: bool, cache: LabelCache | None) -> _Findings:
    nothing = np.zeros(256, np.int64)
    try:
        if not isinstance(dataset, FileDataset) or cache is None:
            label = dataset.read(index).label
            return _Findings((label.shape[0], label.shape[1]), np.bincount(label.ravel(), minlength=256))
        return _inspect_files(dataset, index, decode, cache)
    except DataError as error:
        return _Findings(None, nothing, str(error))


def _inspect_files(dataset: FileDataset, index: int, decode: bool, cache: LabelCache) -> _Findings:
    paths, reading = (dataset.image_path(index), dataset.label_path(index)), dataset.reading
    damage, deep = "", None
    header = read_header(paths[0], reading)
    if decode or header.extra_bands or (header.deep and reading.image_range is None):
        pixels, header, damage = decode_image(paths[0], reading)
        if pixels.dtype != np.uint8:
            deep = _deep(pixels, dataset, index)
    elif header.deep:
        deep = DeepImages(1, dataset.name(index), np.dtype(np.uint16), np.inf, -np.inf, 0, 0)
    summary = cache.summary(paths[1], reading)
    turned = orientation_of_label(header, summary.shape, summary.orientation, paths=paths, settings=reading)
    image_shape = (header.height, header.width)[:: -1 if (header.orientation or 1) >= 5 else 1]
    label_shape = summary.shape[:: -1 if (turned or 1) >= 5 else 1]
    require_equal_sizes(paths, image_shape, label_shape)
    fits = summary.values[0] >= 0 and summary.values[-1] <= 255
    values: Int = np.array([summary.values]).astype(np.uint8 if fits else np.int64)
    stored = StoredLabel(values, summary.palette, summary.orientation)
    mapped = dataset.map_values(dataset.values_by_palette(stored, paths[1]), paths[1])
    counts = np.zeros(256, np.int64)
    np.add.at(counts, mapped[0], np.array(summary.counts, np.int64))
    return _Findings((image_shape[0], image_shape[1]), counts, palette=summary.palette, damage=damage, deep=deep)


def _deep(pixels: npt.NDArray[Any], dataset: FileDataset, index: int) -> DeepImages:
    bounds = value_range(pixels, dataset.image_path(index))
    low, high = dataset.reading.image_range or bounds
    outside = 0 if low <= bounds[0] and bounds[1] <= high else int(((pixels < low) | (pixels > high)).sum())
    return DeepImages(1, dataset.name(index), pixels.dtype, *bounds, pixels.size, outside)


def _add(
    report: DatasetReport, unknown: dict[int, UnknownValue], index: int, name: str, findings: _Findings, reduced: bool
) -> None:
    if findings.size is None:
        report.broken.append(BrokenSample(name, findings.error))
        return
    if findings.damage:
        report.damaged.append(BrokenSample(name, findings.damage))
    if findings.deep is not None:
        report.deep = findings.deep if report.deep is None else report.deep.merge(findings.deep)
    report.image_sizes[findings.size] += 1
    report.stored_pixels += findings.stored
    first = int(reduced)
    end = first + len(report.classes)
    pixels = findings.stored[first:end]
    report.class_pixels += pixels
    report.class_images += pixels > 0
    ignored = int(findings.stored[IGNORE_LABEL]) + (int(findings.stored[0]) if reduced else 0)
    report.ignored_pixels += ignored
    share = ignored / max(int(findings.stored.sum()), 1)
    report.samples.append(SampleCounts(index, findings.size, share, pixels.astype(np.uint32)))
    if ignored == findings.stored.sum():
        report.all_ignored.append(name)
    for value in np.flatnonzero(findings.stored[end:IGNORE_LABEL]) + end:
        known = unknown.get(int(value), UnknownValue(int(value), 0, name))
        unknown[int(value)] = known._replace(pixels=known.pixels + int(findings.stored[value]))
