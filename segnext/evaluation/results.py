"""What an evaluation leaves in its run folder.

metrics.json      mIoU, mAcc, aAcc, boundary_mIoU, …; fractions 0…1, null for what does not exist
per_class.csv     one line per class: IoU, Acc, boundary IoU, pixels
per_class.json    the same
confusion.csv     pixels; rows are labels, columns predictions
confusion.png     the same in per cent of each row
per_image.npz     counts per image and class, for `python -m runners.report compare A B`
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import stdev
from typing import Any

from segnext.data.classes import ClassTable
from segnext.evaluation.evaluator import EvaluationResult
from segnext.plots import charts as figures

__all__ = ["metrics_of", "per_class_rows", "write_tables"]


def metrics_of(results: Sequence[EvaluationResult]) -> dict[str, Any]:
    """The figures of one evaluation, repeated with other random bases or not; the first repeat gives the scores."""
    first = results[0]
    scores = first.scores
    metrics: dict[str, Any] = {
        "mIoU": scores.mIoU,
        "mAcc": scores.mAcc,
        "aAcc": scores.aAcc,
        "images": first.images,
        "images_per_second": first.images_per_second,
    }
    if first.boundary is not None:
        metrics["boundary_mIoU"] = first.boundary.scores()[0]
    if len(results) > 1:
        per_repeat = [result.scores.mIoU for result in results]
        metrics["mIoU_per_repeat"] = per_repeat
        metrics["mIoU_mean"] = sum(per_repeat) / len(per_repeat)
        metrics["mIoU_sd"] = stdev(per_repeat)
    return metrics


def per_class_rows(result: EvaluationResult, classes: ClassTable) -> list[dict[str, Any]]:
    """One record per class; scores are fractions, None where the class did not occur."""
    scores, totals = result.scores, result.confusion.totals()
    contours = result.boundary.scores()[1] if result.boundary is not None else None
    rows = []
    for k, name in enumerate(classes.names):
        row: dict[str, Any] = {"class": name.strip(), "IoU": _known(scores.IoU[k]), "Acc": _known(scores.Acc[k])}
        if contours is not None:
            row["boundary_IoU"] = _known(contours[k])
        row["labelled_pixels"] = int(totals.labelled[k])
        row["predicted_pixels"] = int(totals.predicted[k])
        rows.append(row)
    return rows


def write_tables(folder: Path, result: EvaluationResult, classes: ClassTable) -> None:
    """Writes everything but ``metrics.json`` into ``folder``."""
    rows = per_class_rows(result, classes)
    _write_csv(folder / "per_class.csv", rows)
    (folder / "per_class.json").write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    names = [name.strip() for name in classes.names]
    with (folder / "confusion.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["label \\ prediction", *names])
        for name, row in zip(names, result.confusion.matrix.tolist(), strict=True):
            writer.writerow([name, *row])
    figures.save(figures.plot_confusion(result.confusion.matrix, names), folder / "confusion.png")
    result.per_image.save(folder / "per_image.npz")


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
