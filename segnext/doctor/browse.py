"""A dataset as one page to look at: classes, sizes, random and suspicious pairs, and what the augmentation does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segnext.data.augmentation import MEAN, STD, TrainingTransform
from segnext.data.dataset_report import DatasetReport, SampleCounts
from segnext.data.datasets import Dataset, Sample
from segnext.data.settings import AugmentationSettings
from segnext.doctor.dataset import DatasetExamination, class_share
from segnext.errors import DataError
from segnext.plots.overlays import overlay, present_classes
from segnext.plots.pages import css_colour, data_address, render

__all__ = ["browse_page"]

_RANDOM = 6  # pairs of each split
_SUSPICIOUS = 4  # pairs of each kind
_DRAWS = 8
_SIZES = 12  # rows of the table of sizes
_LONG_SIDE = 300  # pixels of a picture
_MOSTLY_IGNORED = 0.8


@dataclass(frozen=True)
class Pair:
    """An image and its label in colour as data addresses, and the (name, CSS colour) of its classes."""

    title: str
    image: str
    label: str
    classes: tuple[tuple[str, str], ...]


def browse_page(
    examination: DatasetExamination, *, title: str, augmentation: AugmentationSettings, seed: int = 0
) -> str:
    """The page of what an examination has seen; the pairs shown are drawn by ``seed``."""
    splits = []
    for split, report in examination.reports.items():
        dataset = examination.datasets[split]
        splits.append({
            "name": split,
            "report": report,
            "sizes": _sizes(report),
            "random": list(_pairs(dataset, _drawn(report, seed))),
            "suspicious": [(why, list(_pairs(dataset, chosen))) for why, chosen in _suspicious(report)],
            "draws": _draws(dataset, report, augmentation, seed) if split == "train" else [],
        })  # fmt: skip
    context = {
        "title": title,
        "findings": [finding for finding in examination.findings if finding.state.value != "ok"],
        "splits": splits,
        "classes": _classes(examination.reports),
        "crop": augmentation.crop,
    }
    return render("doctor", "browse.html", context)


def _classes(reports: dict[str, DatasetReport]) -> list[dict[str, Any]]:
    """A row per class: number, name, colour, and per split its share in per cent, a bar's length and its images."""
    shares = {split: class_share(report) for split, report in reports.items()}
    most = max((max(share) for share in shares.values()), default=0.0) or 1.0
    table = next(iter(reports.values())).classes if reports else None
    if table is None:
        return []
    return [
        {
            "number": k,
            "name": name.strip(),
            "colour": css_colour(table.palette[k]),
            "splits": [
                # The square root leaves something to see of rare classes.
                (100 * shares[split][k], 100 * (shares[split][k] / most) ** 0.5, int(report.class_images[k]))
                for split, report in reports.items()
            ],
        }
        for k, name in enumerate(table.names)
    ]


def _sizes(report: DatasetReport) -> list[tuple[str, int, float]]:
    """(width×height, images, bar's length in per cent), the commonest first; what is left shares a row."""
    common = report.image_sizes.most_common(_SIZES)
    rows = [(f"{width}×{height}", count) for (height, width), count in common]
    if (left := len(report.image_sizes) - len(common)) > 0:
        rows.append((f"{left} other sizes", sum(report.image_sizes.values()) - sum(count for _, count in common)))
    most = max((count for _, count in rows), default=1)
    return [(size, count, 100 * count / most) for size, count in rows]


def _drawn(report: DatasetReport, seed: int) -> list[tuple[int, str]]:
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(report.samples))[:_RANDOM]
    return [(report.samples[place].number, "") for place in sorted(map(int, chosen))]


def _suspicious(report: DatasetReport) -> Iterator[tuple[str, list[tuple[int, str]]]]:
    """Why pairs should be looked at, and which: (index, what is odd about it)."""
    samples, names = report.samples, report.classes.names
    ignored = sorted((s for s in samples if s.ignored >= _MOSTLY_IGNORED), key=lambda s: -s.ignored)
    if ignored:
        shown = [(s.number, f"{100 * s.ignored:.0f} % ignored") for s in ignored[:_SUSPICIOUS]]
        yield f"almost all ignored ({len(ignored)} pairs)", shown
    rare = [int(k) for k in np.argsort(report.class_images, kind="stable") if report.class_images[k]][:_SUSPICIOUS]
    if samples and rare:
        best = [max(samples, key=lambda s, k=k: int(s.class_pixels[k])) for k in rare]  # type: ignore[misc]
        notes = [f"{names[k].strip()}: in {report.class_images[k]} images" for k in rare]
        yield "the rarest classes, each where it is largest", [(s.number, n) for s, n in zip(best, notes, strict=True)]
    single = [s for s in samples if np.count_nonzero(s.class_pixels) == 1]
    if single and len(single) < len(samples):
        yield f"one class alone ({len(single)} pairs)", [(s.number, "") for s in single[:_SUSPICIOUS]]
    odd = _odd_sizes(report, samples)
    if odd:
        yield "unusual sizes", odd


def _odd_sizes(report: DatasetReport, samples: Sequence[SampleCounts]) -> list[tuple[int, str]]:
    """The images furthest from the usual size, where it differs by more than a factor of two."""
    if not samples:
        return []
    sides = np.log([max(s.size) * min(s.size) for s in samples]) / 2
    shapes = np.log([s.size[1] / s.size[0] for s in samples])
    distance = np.maximum(np.abs(sides - np.median(sides)), np.abs(shapes - np.median(shapes)))
    order = np.argsort(-distance, kind="stable")[:_SUSPICIOUS]
    chosen = [samples[place] for place in order if distance[place] > np.log(2)]
    return [(s.number, f"{s.size[1]}×{s.size[0]}") for s in chosen]


def _pairs(dataset: Dataset, chosen: Sequence[tuple[int, str]]) -> Iterator[Pair]:
    for index, note in chosen:
        try:
            sample = dataset.read(index)
        except DataError:  # it has changed meanwhile
            continue
        yield _pair(dataset, sample, " · ".join(filter(None, (dataset.name(index), note))))


def _pair(dataset: Dataset, sample: Sample, title: str) -> Pair:
    classes = dataset.classes
    shown = present_classes(sample.label, classes=len(classes))
    colours = tuple((classes.names[k].strip(), css_colour(classes.palette[k])) for k in shown[:8])
    more = ((f"and {len(shown) - 8} more", "none"),) if len(shown) > 8 else ()
    coloured = overlay(sample.image, sample.label, classes.palette, alpha=0.7)
    image, label = (data_address(pixels, long_side=_LONG_SIDE) for pixels in (sample.image, coloured))
    return Pair(title, image, label, (*colours, *more))


def _draws(dataset: Dataset, report: DatasetReport, settings: AugmentationSettings, seed: int) -> list[Pair]:
    """The first pair that is shown and what the augmentation makes of it."""
    drawn = _drawn(report, seed)
    if not drawn:
        return []
    index = drawn[0][0]
    sample, transform = dataset.read(index), TrainingTransform(settings)
    pairs = [_pair(dataset, sample, f"{dataset.name(index)}, as it is")]
    for draw in range(_DRAWS):
        image, label = transform(sample, np.random.default_rng([seed, draw]))
        pixels = image.transpose(1, 2, 0) * np.array(STD, np.float32) + np.array(MEAN, np.float32)
        rgb = np.ascontiguousarray(np.clip(np.rint(pixels), 0, 255), dtype=np.uint8)
        pairs.append(_pair(dataset, Sample(rgb, label), f"draw {draw + 1}"))
    return pairs
