"""Is the dataset sound? Turns what an inspection counted into findings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from segnext.doctor import Finding, ok, problem, warning
from segnext.errors import DataError

if TYPE_CHECKING:
    from segnext.data.dataset_report import DatasetReport
    from segnext.data.datasets import Dataset

__all__ = ["SPLITS", "DatasetExamination", "class_share", "examine_dataset"]

SPLITS = ("train", "val")
_SHOWN = 3  # culprits named


@dataclass
class DatasetExamination:
    """``reports`` and ``datasets`` of the splits that could be listed at all, by split, and what follows from them."""

    reports: dict[str, DatasetReport] = field(default_factory=dict)
    datasets: dict[str, Dataset] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def examine_dataset(
    create: Callable[[str], Dataset],
    *,
    limit: int | None = None,
    workers: int = 4,
    progress: Callable[[str, int, int], None] | None = None,
) -> DatasetExamination:
    """Looks at the pairs of both splits.

    Args:
        create: gives the dataset of a split, "train" or "val"; its DataError becomes a finding.
        limit: at most so many samples of each split, spread evenly; None for all.
        workers: threads that read.
        progress: called as (split, done, total) after every sample.

    Raises:
        ConfigError: of ``create``.
    """
    from segnext.data.inspection import inspect_dataset  # here, since OpenCV may be what is broken

    result = DatasetExamination()
    for split in SPLITS:
        try:
            dataset = result.datasets[split] = create(split)
        except DataError as error:
            if str(error) not in (finding.text for finding in result.findings):  # the root is wrong for both
                result.findings.append(problem(split, str(error)))
            continue

        def step(done: int, total: int, split: str = split) -> None:
            if progress is not None:
                progress(split, done, total)

        report = inspect_dataset(dataset, limit=limit, workers=workers, progress=step)
        result.reports[split] = report
        result.findings += _of_split(split, dataset, report)
    result.findings += _of_both(result.datasets, result.reports)
    return result


def class_share(report: DatasetReport) -> list[float]:
    """The fraction (0 to 1) of all labelled pixels that each class has; zeros where nothing is labelled."""
    return [float(share) for share in report.class_pixels / max(int(report.class_pixels.sum()), 1)]


def _of_split(split: str, dataset: Dataset, report: DatasetReport) -> Iterator[Finding]:
    pixels = int(report.stored_pixels.sum())
    seen = f"{report.size} pairs" if report.inspected == report.size else f"{report.inspected} of {report.size} pairs"
    ignored = f"{100 * report.ignored_pixels / pixels:.1f} % of the pixels ignored" if pixels else "no pixel read"
    yield ok(split, f"{seen}, {_sizes(report)}, {ignored}")
    for broken in report.broken[:_SHOWN]:
        yield problem(split, f"{broken.name}: {broken.message}")
    if len(report.broken) > _SHOWN:
        names = _listing([broken.name for broken in report.broken[_SHOWN:]])
        yield problem(split, f"{len(report.broken) - _SHOWN} more broken pairs: {names}")
    for name, damage in report.damaged[:_SHOWN]:
        yield problem(split, f"{name}: the image is damaged: {damage}", "restore it or remove the pair")
    if len(report.damaged) > _SHOWN:
        names = _listing([damaged.name for damaged in report.damaged[_SHOWN:]])
        yield problem(split, f"{len(report.damaged) - _SHOWN} more damaged images: {names}")
    for text in (*report.problems(split), *report.suspicions(split)):
        yield problem(split, text)
    yield from _of_values(split, dataset, report)
    if report.unused_labels > 0:
        yield warning(split, f"{report.unused_labels} labels have no image", "are images missing? Else all is well")


def _of_values(split: str, dataset: Dataset, report: DatasetReport) -> Iterator[Finding]:
    """Label values without a meaning, labels without a class, and what they hint at."""
    hints = [hint for hint in report.hints if "ignored everywhere" not in hint]
    if report.unknown_values:
        listing = _listing([str(entry.value) for entry in report.unknown_values])
        count = sum(entry.pixels for entry in report.unknown_values)
        text = (
            f"label values that are no class: {listing} ({count:,} pixels, first in "
            f"{report.unknown_values[0].first_sample}); {len(report.classes)} classes are known"
        )
        yield problem(split, text, "; ".join(hints))
    else:
        for hint in hints:
            yield warning(split, hint)
    if report.all_ignored:
        text = f"{len(report.all_ignored)} labels are ignored everywhere: {_listing(report.all_ignored)}"
        if not report.class_pixels.any():
            yield problem(split, text, "nothing can be learnt from these: are the values in the files right?")
        else:
            yield warning(split, text, "take these pairs out, or label them")


def _of_both(datasets: Mapping[str, Dataset], reports: Mapping[str, DatasetReport]) -> Iterator[Finding]:
    """What shows only when the splits are held against each other."""
    from segnext.data.dataset_report import all_deep

    if deep := all_deep(reports.values()):
        image_range = next(iter(reports.values())).image_range
        if image_range is None:
            yield problem("images", deep.describe(None))
        elif doubts := deep.doubts(image_range):
            yield problem("images", f"{deep.describe(image_range)}; {doubts}")
        else:
            yield ok("images", deep.describe(image_range))
    for split, report in reports.items():
        if report.never_seen and len(report.never_seen) < len(report.classes):
            text = f"{len(report.never_seen)} of {len(report.classes)} classes never seen: "
            what = "cannot be learnt" if split == "train" else "get no IoU and do not count in the mIoU"
            yield warning(split, text + _listing(report.never_seen, shown=8), f"they {what}")
    if len(reports) < len(SPLITS):
        return
    train, val = (reports[split] for split in SPLITS)
    untaught = [name for name in train.never_seen if name not in val.never_seen]
    if untaught and len(untaught) < len(train.classes):
        text = f"in val but not in train: {_listing(untaught, shown=8)}"
        yield warning("splits", text, "their IoU will be 0: split the images anew")
    shared = _files(datasets["train"]) & _files(datasets["val"])
    if shared:
        text = f"{len(shared)} images are in train and in val: {_listing(sorted(shared))}"
        yield problem("splits", text, "the mIoU would be too good: take them out of one split")


def _files(dataset: Dataset) -> set[str]:
    from segnext.data.datasets import FileDataset

    return {pair.image for pair in dataset.pairs} if isinstance(dataset, FileDataset) else set()


def _sizes(report: DatasetReport) -> str:
    """Width×height, or the ranges of both."""
    if not report.image_sizes:
        return "no size"
    if len(report.image_sizes) == 1:
        ((height, width),) = report.image_sizes
        return f"{width}×{height}"
    heights, widths = np.array(list(report.image_sizes)).T
    return f"{len(report.image_sizes)} sizes, {widths.min()}–{widths.max()}×{heights.min()}–{heights.max()}"


def _listing(names: Sequence[str], *, shown: int = _SHOWN) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(name.strip() for name in names[:shown]) + more
