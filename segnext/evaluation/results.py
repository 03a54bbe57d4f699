"""What an evaluation leaves in its run folder.

metrics.json      mIoU, mAcc, aAcc, boundary_mIoU, …; fractions 0…1, null for what does not exist
per_class.csv     one line per class: IoU, Acc, boundary IoU, pixels
per_class.json    the same
confusion.csv     pixels; rows are labels, columns predictions
confusion.png     the same in per cent of each row
per_image.npz     counts per image and class, for `python -m runners.report compare A B`
extremes/         the best and the worst images (extremes.py)

A training leaves them in ``evaluation/`` of its run folder, of its best evaluation and without the picture.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import stdev
from typing import Any

from rich.console import Console
from rich.table import Table

from segnext.data.classes import ClassTable
from segnext.evaluation.evaluator import EvaluationResult
from segnext.evaluation.metrics import Scores
from segnext.models.variants import Published
from segnext.plots import charts as figures

__all__ = ["metrics_of", "per_class_rows", "print_scores", "validation_metrics", "write_tables"]


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


def validation_metrics(scores: Scores, class_names: Sequence[str]) -> dict[str, float]:
    """``val/mIoU``, ``val/mAcc``, ``val/aAcc`` and ``val/IoU/<class>`` of an evaluation; nan for an absent class."""
    metrics = {"val/mIoU": scores.mIoU, "val/mAcc": scores.mAcc, "val/aAcc": scores.aAcc}
    per_class = zip(class_names, scores.IoU, strict=True)
    return {k: float(v) for k, v in metrics.items()} | {f"val/IoU/{n.strip()}": float(iou) for n, iou in per_class}


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


def write_tables(folder: Path, result: EvaluationResult, classes: ClassTable, *, picture: bool = True) -> None:
    """Writes the tables into ``folder``, and with ``picture`` the drawn confusion matrix."""
    folder.mkdir(exist_ok=True)
    rows = per_class_rows(result, classes)
    _write_csv(folder / "per_class.csv", rows)
    (folder / "per_class.json").write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    names = [name.strip() for name in classes.names]
    with (folder / "confusion.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["label \\ prediction", *names])
        for name, row in zip(names, result.confusion.matrix.tolist(), strict=True):
            writer.writerow([name, *row])
    if picture:
        figures.save(figures.plot_confusion(result.confusion.matrix, names), folder / "confusion.png")
    result.per_image.save(folder / "per_image.npz")


def print_scores(
    console: Console,
    title: str,
    results: Sequence[EvaluationResult],
    classes: ClassTable,
    *,
    tta: bool,
    paper: Published | None,
    whole: bool,
) -> None:
    """Prints the table per class and the figures below it, in per cent.

    Args:
        tta: whether the scores are averages over ratios and flips, as the paper's "ms".
        paper: what it has published of this model and dataset.
        whole: whether this is the whole validation set, which is what the paper's figures are of.
    """
    first, metrics = results[0], metrics_of(results)
    scores = first.scores
    console.print(_class_table(classes.names, scores))
    console.print(f"\n{title}, {'multi-scale and flip' if tta else 'single scale'}, {first.images} images")
    line = f"mIoU {_percent(scores.mIoU)}   mAcc {_percent(scores.mAcc)}   aAcc {_percent(scores.aAcc)}"
    if "boundary_mIoU" in metrics:
        line += f"   boundary mIoU {_percent(metrics['boundary_mIoU'])}"
    console.print(line, style="bold")
    if "mIoU_sd" in metrics:
        mean, sd = 100 * metrics["mIoU_mean"], 100 * metrics["mIoU_sd"]
        console.print(f"mIoU over {len(results)} draws of the NMF bases: {mean:.2f} ± {sd:.2f} % (sd)")
    if paper is not None:
        figure = paper.mIoU_ms if tta else paper.mIoU_ss
        note = "" if whole else " (the paper's is of the whole validation set)"
        console.print(f"paper: {figure:.1f} %, difference {100 * scores.mIoU - figure:+.2f} points{note}")
    if not math.isnan(first.images_per_second):
        console.print(f"{first.images_per_second:.2f} images/s")


def _class_table(names: Sequence[str], scores: Scores) -> Table:
    """Per-class IoU and accuracy in per cent, '–' for a class that did not occur; above 20 classes two share a line."""
    blocks = 1 if len(names) <= 20 else 2
    table = Table(box=None, pad_edge=False)
    for _ in range(blocks):
        table.add_column("class", no_wrap=True, overflow="ellipsis", max_width=22)
        table.add_column("IoU %", justify="right")
        table.add_column("Acc %", justify="right", style="dim")
    rows = -(-len(names) // blocks)
    for row in range(rows):
        cells: list[str] = []
        for k in range(row, len(names), rows):
            figures = ("–" if math.isnan(score) else f"{100 * score:.1f}" for score in (scores.IoU[k], scores.Acc[k]))
            cells += [names[k].strip(), *figures]
        table.add_row(*cells)
    return table


def _percent(fraction: float) -> str:
    return "–" if math.isnan(fraction) else f"{100 * fraction:.2f} %"


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
