"""One run closely: its classes over the iterations, confusion matrix, best and worst images, and bootstrap draws."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segnext.errors import DataError
from segnext.evaluation.compare import bootstrap
from segnext.evaluation.extremes import read_extremes
from segnext.evaluation.metrics import PerImageCounts
from segnext.files import read_file
from segnext.plots.overlays import overlay, present_classes
from segnext.plots.pages import css_colour, data_address
from segnext.report.charts import Curve, Figure, line_chart
from segnext.report.collect import Run
from segnext.tracking.events import series
from segnext.tracking.images import StoredImage, ValidationImage

__all__ = ["Details", "bootstrap_record", "confusion_chart", "details"]

_PANEL = 300  # pixels of a picture's long side
_MOST_CLASSES = 255
BOOTSTRAP_SAMPLES = 1000  # as many as the page draws; `report compare` draws more


@dataclass(frozen=True)
class Sample:
    """A validation image: pictures as (caption, data address), and the (name, CSS colour) of the classes in it."""

    title: str
    pictures: tuple[tuple[str, str], ...]
    classes: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Details:
    """What the page shows of one run; ``damaged`` names images whose files are missing or damaged."""

    run: Run
    class_curves: Figure | None
    losses: Figure | None
    confusion: Figure | None
    samples: Sequence[Sample]
    damaged: Sequence[str]


def details(run: Run) -> Details:
    """Reads all about ``run`` that is in its folder; what is missing or damaged is left out."""
    samples: list[Sample] = []
    damaged: list[str] = []
    for name, load in _images(run):
        try:
            samples.append(_sample(run, *load()))
        except Exception:  # a damaged picture makes Pillow raise nearly anything
            damaged.append(name)
    loss = line_chart([Curve("loss", series(run.events, "train/loss"))], title="training loss", per_cent=False)
    return Details(run, _class_curves(run), loss, confusion_chart(run.evaluation / "confusion.csv"), samples, damaged)


def bootstrap_record(run: Run) -> dict[str, Any] | None:
    """What the page compares a run by: mIoU, IoU per class, draws in per cent, and a key of the images they are of."""
    try:
        counts = PerImageCounts.load(run.evaluation / "per_image.npz")
        if not counts.names:
            return None
        draws = bootstrap(counts, samples=BOOTSTRAP_SAMPLES)
    except DataError:
        return None
    key = sha256("\n".join([str(counts.num_classes), *sorted(counts.names)]).encode(errors="replace")).hexdigest()[:12]
    classes = {name: None if math.isnan(iou) else round(100 * iou, 2) for name, iou in run.class_iou().items()}
    return {
        "name": run.name, "dataset": run.dataset, "images": len(counts.names), "key": key, "classes": classes,
        "draws": [round(100 * float(draw), 3) for draw in np.nan_to_num(draws)],
    }  # fmt: skip


def confusion_chart(path: Path) -> Figure | None:
    """The confusion matrix in a ``confusion.csv``, each row (true class) in per cent of its pixels."""
    try:
        rows = list(csv.reader(io.StringIO(read_file(path).decode(errors="replace"))))
        names = rows[0][1:]
        matrix = np.array([[float(cell) for cell in row[1:]] for row in rows[1:]])
    except (OSError, ValueError, IndexError, csv.Error):
        return None
    if matrix.shape != (len(names), len(names)) or not 0 < len(names) <= _MOST_CLASSES or not np.isfinite(matrix).all():
        return None
    total = matrix.sum(axis=1, keepdims=True)
    share = np.divide(100 * matrix, total, out=np.zeros_like(matrix), where=total > 0)[::-1]
    few = len(names) <= 25
    trace = {
        "type": "heatmap", "z": np.sqrt(share).round(2).tolist(), "customdata": share.round(1).tolist(),
        "x": names, "y": names[::-1], "zmin": 0, "zmax": 10, "colorscale": "Cividis", "showscale": False,
        "xgap": int(few), "ygap": int(few), "text": share.round().astype(int).tolist(),
        "texttemplate": "%{text}" if len(names) <= 20 else "",
        "hovertemplate": "%{customdata:.1f} % of <b>%{y}</b><br>are predicted as <b>%{x}</b><extra></extra>",
    }  # fmt: skip
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": "predicted class"}, "showgrid": False, "tickangle": -90, "automargin": True},
        "yaxis": {"title": {"text": "true class"}, "showgrid": False, "automargin": True},
        "height": 200 + max(len(names) * 24, 160) if few else 640,
    }  # fmt: skip
    if not few:  # names stand in the hover
        layout["xaxis"]["showticklabels"] = layout["yaxis"]["showticklabels"] = False
    return {"data": [trace], "layout": layout, "width": 150 + 26 * min(len(names), 14)}


def _class_curves(run: Run) -> Figure | None:
    prefix = "val/IoU/"
    names = dict.fromkeys(n for e in run.events if e.kind == "val" for n in e.metrics if n.startswith(prefix))
    curves = {name[len(prefix) :]: series(run.events, name) for name in list(names)[:_MOST_CLASSES]}
    figure = line_chart([Curve(name, values) for name, values in curves.items()], title="IoU, %", per_cent=True)
    if figure is not None:
        figure["layout"]["height"] = 420
    return figure


def _images(run: Run) -> Iterator[tuple[str, Any]]:
    """Name and loader of the best and worst images, else of those that were tracked at the best evaluation."""
    extremes = read_extremes(run.evaluation)
    for extreme in extremes:

        def load(extreme: Any = extreme) -> tuple[ValidationImage, str, NDArray[np.uint8] | None]:
            image, confidence = extreme.load(run.evaluation)
            title = f"{'best' if extreme.best else 'worst'}: {extreme.name}, mIoU {100 * extreme.mIoU:.1f} %"
            return image, title, confidence

        yield extreme.name, load
    kept = [event for event in run.events if event.kind == "images"]
    if extremes or not kept:
        return
    event = next((e for e in kept if e.iteration == run.best_iteration), kept[-1])
    for record in event.extra.get("images", [])[:4]:

        def load_kept(record: Any = record) -> tuple[ValidationImage, str, NDArray[np.uint8] | None]:
            image = StoredImage(**record).load(run.folder)
            return image, f"{image.name}, iteration {event.iteration}", None

        yield str(record.get("name", "?")), load_kept


def _sample(run: Run, image: ValidationImage, title: str, confidence: NDArray[np.uint8] | None) -> Sample:
    names, palette = run.folder.read_classes()
    small = image.shrunk(_PANEL)
    pictures = [("image", small.image)]
    pictures += [
        (caption, overlay(small.image, label, palette))
        for caption, label in (("truth", small.truth), ("prediction", small.prediction))
    ]
    if confidence is not None:
        height, width = small.truth.shape
        grey = Image.fromarray(confidence).resize((width, height))
        pictures.append(("confidence (white: certain)", np.asarray(grey)))
    shown = present_classes(small.truth, small.prediction, classes=len(names))
    colours = tuple((names[k].strip(), css_colour(palette[k])) for k in shown)
    return Sample(title, tuple((caption, data_address(pixels)) for caption, pixels in pictures), colours)
