"""The report as one HTML page: no file beside it, no network. ``page.html`` is its template."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from segnext.plots.charts import heat_colour, plot_cost, plot_scores
from segnext.report.collect import Run
from segnext.report.tables import COLUMNS, Group, cost_points, groups, missing, paper_points
from segnext.tracking.events import series
from segnext.tracking.images import curves_figure, sample_pictures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["to_html"]

_SAMPLES = 2  # sample images per run
_PANEL_WIDTH = 400


@dataclass(frozen=True)
class _Cell:
    """What a table shows, and the ``value`` that it is sorted by; None or nan sorts last."""

    text: str
    value: Any = None
    numeric: bool = True
    style: str = ""

    @property
    def sort(self) -> str:
        return "" if self.value is None or self.value != self.value else str(self.value)


@dataclass(frozen=True)
class _Table:
    """``titles``: (heading, whether the column holds numbers)."""

    identity: str
    titles: Sequence[tuple[str, bool]]
    rows: Iterable[Sequence[_Cell]]


@dataclass(frozen=True)
class _Picture:
    source: str
    alternative: str


@dataclass(frozen=True)
class _Details:
    """The part of the page on one run; a sample whose picture is None is missing."""

    run: Run
    chart: _Picture | None
    samples: Sequence[tuple[str, _Picture | None]]


def to_html(runs: Sequence[Run], *, title: str) -> str:
    """The page of ``runs``; works with runs of any state."""
    by_group = groups(runs)
    curves = {f"{run.name}: {run.label} seed {run.seed}": series(run.events, "val/mIoU") for run in runs}
    environment = Environment(
        loader=PackageLoader("segnext.report", "."), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("page.html").render(
        title=title,
        finished=sum(run.state == "finished" for run in runs),
        made=datetime.now().strftime("%Y-%m-%d %H:%M"),
        missing=missing(runs),
        runs=runs,
        run_table=_run_table(runs),
        group_table=_group_table(by_group),
        cost=_chart(plot_cost(cost_points(runs), reference=paper_points(runs)), "mIoU over multiply-accumulates"),
        curves=_chart(plot_scores(curves), "validation mIoU over iterations"),
        class_tables=_class_tables(by_group),
        details=map(_details, runs),
    )


def _run_table(runs: Sequence[Run]) -> _Table:
    columns = [c for c in COLUMNS if c.title != "settings" or any(run.settings for run in runs)]
    rows = [[_Cell(c.text(c.value(run)), c.value(run), c.numeric) for c in columns] for run in runs]
    return _Table("runs", [(c.title, c.numeric) for c in columns], rows)


def _group_table(by_group: Sequence[Group]) -> _Table:
    def spread(group: Group, score: str) -> _Cell:
        average, sd, count = group.spread(score)
        if not count:
            return _Cell("–")
        return _Cell(f"{100 * average:.2f}" + (f" ± {100 * sd:.2f}" if not math.isnan(sd) else ""), average)

    def row(group: Group) -> list[_Cell]:
        paper = group.runs[0].paper
        return [
            _Cell(group.label, group.label, numeric=False),
            _Cell(f"{group.spread('miou_ss')[2]} of {len(group.runs)}", len(group.runs)),
            spread(group, "miou_ss"),
            spread(group, "miou_ms"),
            _Cell(f"{100 * paper.miou_ss:.1f}", paper.miou_ss) if paper else _Cell("–"),
        ]

    numbers = ("finished", "mIoU ss % ± sd", "mIoU ms % ± sd", "paper ss %")
    return _Table("groups", [("model, dataset", False), *((name, True) for name in numbers)], map(row, by_group))


def _class_tables(by_group: Sequence[Group]) -> list[tuple[str, _Table | None]]:
    """For each dataset, the IoU of each class (rows) and group (columns); None before the first evaluation."""
    tables: list[tuple[str, _Table | None]] = []
    for number, dataset in enumerate(dict.fromkeys(group.runs[0].dataset for group in by_group)):
        scores = {}
        for group in by_group:
            known = [iou for iou in (run.class_iou() for run in group.finished or group.runs) if iou]
            if group.runs[0].dataset == dataset and known:
                names = dict.fromkeys(name for table in known for name in table)
                scores[group.label] = {name: _mean([table.get(name, math.nan) for table in known]) for name in names}
        names = dict.fromkeys(name for table in scores.values() for name in table)
        rows = [
            [_Cell(name, name, numeric=False), *(_heat(table.get(name, math.nan)) for table in scores.values())]
            for name in names
        ]
        titles = [(f"{dataset} ({len(names)} classes)", False), *((label, True) for label in scores)]
        tables.append((dataset, _Table(f"classes-{number}", titles, rows) if scores else None))
    return tables


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _heat(iou: float) -> _Cell:
    if math.isnan(iou):
        return _Cell("–")
    background, ink = heat_colour(iou)
    return _Cell(f"{100 * iou:.1f}", iou, style=f"background:{background};color:{ink}")


def _details(run: Run) -> _Details:
    logged = any(event.metrics for event in run.events)
    chart = _chart(curves_figure(run.events), f"curves of {run.name}") if logged else None
    pictures = sample_pictures(run.folder, run.events, best_iteration=run.best_iteration, panel_width=_PANEL_WIDTH)
    samples = [(name, _photo(image, name) if image else None) for name, image in islice(pictures, _SAMPLES)]
    return _Details(run, chart, samples)


def _chart(figure: Figure, alternative: str) -> _Picture:
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=100)
    return _Picture(_data_address("image/png", data), alternative)


def _photo(image: Image.Image, name: str) -> _Picture:
    data = io.BytesIO()
    image.save(data, format="JPEG", quality=85)
    return _Picture(_data_address("image/jpeg", data), f"{name}: image, truth and prediction")


def _data_address(kind: str, data: io.BytesIO) -> str:
    return f"data:{kind};base64,{base64.b64encode(data.getvalue()).decode()}"
