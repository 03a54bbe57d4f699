"""The report as one HTML page: no file beside it, no network."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from html import escape
from importlib import resources
from itertools import islice
from string import Template
from typing import TYPE_CHECKING, Any

from PIL import Image

from segnext.plots.charts import plot_cost, plot_scores
from segnext.report.collect import Run
from segnext.report.tables import COLUMNS, Group, cost_points, groups, missing, paper_points
from segnext.tracking.events import series
from segnext.tracking.images import curves_figure, sample_pictures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["to_html"]

_SAMPLES = 2  # sample images per run
_PANEL_WIDTH = 400


def to_html(runs: Sequence[Run], *, title: str) -> str:
    """The page of ``runs``; works with runs of any state."""
    finished = sum(run.state == "finished" for run in runs)
    made = datetime.now().strftime("%Y-%m-%d %H:%M")
    by_group = groups(runs)
    curves = {f"{run.name}: {run.label} seed {run.seed}": series(run.events, "val/mIoU") for run in runs}
    template = Template(resources.files("segnext.report").joinpath("page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(title),
        subtitle=f"{finished} of {len(runs)} runs finished · made {made}",
        missing=_missing(missing(runs)),
        runs=_runs(runs),
        groups=_groups(by_group),
        cost=_chart(plot_cost(cost_points(runs), reference=paper_points(runs)), "mIoU over multiply-accumulates"),
        curves=_chart(plot_scores(curves), "validation mIoU over iterations"),
        classes=_classes(by_group),
        details="\n".join(map(_details, runs)),
    )


def _missing(lines: Sequence[str]) -> str:
    if not lines:
        return ""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<div class="missing"><strong>Not complete yet</strong><ul>{items}</ul></div>'


def _table(identity: str, titles: Iterable[tuple[str, bool]], rows: Iterable[str]) -> str:
    head = "".join(
        f'<th scope="col"{" class=number" if number else ""}><button>{escape(title)}</button></th>'
        for title, number in titles
    )
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    table = f'<table class="sortable" id="{identity}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div class="scroll">{table}</div>'


def _cell(value: Any, text: str, *, numeric: bool, extra: str = "") -> str:
    known = value is not None and value == value
    kind = ' class="number"' if numeric else ""
    return f'<td{kind} data-sort="{escape(str(value)) if known else ""}"{extra}>{text}</td>'


def _runs(runs: Sequence[Run]) -> str:
    columns = [c for c in COLUMNS if c.title != "settings" or any(run.settings for run in runs)]

    def row(run: Run) -> str:
        cells = []
        for column in columns:
            value = column.value(run)
            text = escape(column.text(value))
            if column.title == "run":
                text = f'<a href="#{escape(run.name)}">{text}</a>'
                text += f' (<a href="{escape(run.url)}">W&amp;B</a>)' if run.url else ""
            if column.title == "state":
                text = f'<span class="state-{escape(run.state)}">{text}</span>'
            cells.append(_cell(value, text, numeric=column.numeric))
        return "".join(cells)

    return _table("runs", [(c.title, c.numeric) for c in columns], map(row, runs))


def _groups(by_group: Sequence[Group]) -> str:
    def spread(group: Group, score: str) -> str:
        average, sd, count = group.spread(score)
        if not count:
            return _cell(None, "–", numeric=True)
        text = f"{100 * average:.2f}" + (f" ± {100 * sd:.2f}" if not math.isnan(sd) else "")
        return _cell(average, text, numeric=True)

    def row(group: Group) -> str:
        paper = group.runs[0].paper
        published = paper.miou_ss if paper else None
        cells = [
            _cell(group.label, escape(group.label), numeric=False),
            _cell(len(group.runs), f"{group.spread('miou_ss')[2]} of {len(group.runs)}", numeric=True),
            spread(group, "miou_ss"),
            spread(group, "miou_ms"),
            _cell(published, "–" if published is None else f"{100 * published:.1f}", numeric=True),
        ]
        return "".join(cells)

    titles = [("model, dataset", False), ("finished", True), ("mIoU ss % ± sd", True), ("mIoU ms % ± sd", True)]
    return _table("groups", [*titles, ("paper ss %", True)], map(row, by_group))


def _classes(by_group: Sequence[Group]) -> str:
    parts = []
    for number, dataset in enumerate(dict.fromkeys(group.runs[0].dataset for group in by_group)):
        scores = {}
        for group in by_group:
            tables = [iou for iou in (run.class_iou() for run in group.finished or group.runs) if iou]
            if group.runs[0].dataset == dataset and tables:
                names = dict.fromkeys(name for table in tables for name in table)
                scores[group.label] = {name: _mean([table.get(name, math.nan) for table in tables]) for name in names}
        if not scores:
            parts.append(f'<p class="note">{escape(dataset)}: no evaluation yet.</p>')
            continue
        names = dict.fromkeys(name for table in scores.values() for name in table)
        rows = (
            _cell(name, escape(name), numeric=False)
            + "".join(_heat(table.get(name, math.nan)) for table in scores.values())
            for name in names
        )
        titles = [(f"{dataset} ({len(names)} classes)", False), *((label, True) for label in scores)]
        parts.append(_table(f"classes-{number}", titles, rows))
    return "\n".join(parts)


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _heat(iou: float) -> str:
    if math.isnan(iou):
        return _cell(None, "–", numeric=True)
    import matplotlib

    red, green, blue, _ = matplotlib.colormaps["cividis"](iou, bytes=True)
    ink = "#fff" if iou < 0.5 else "#000"
    return _cell(
        iou, f"{100 * iou:.1f}", numeric=True, extra=f' style="background:rgb({red},{green},{blue});color:{ink}"'
    )


def _details(run: Run) -> str:
    parts = [f"<p class=note>{escape(str(run.folder.path))}</p>"]
    if run.error:
        parts.append(f"<p><strong>{escape(run.state)}</strong>: {escape(run.error)}</p>")
    if any(event.metrics for event in run.events):
        parts.append(_chart(curves_figure(run.events), f"curves of {run.name}"))
    else:
        parts.append('<p class="note">Nothing has been logged yet.</p>')
    parts += _samples(run)
    head = f"{escape(run.label)}, seed {run.seed} <span class=note>({escape(run.name)})</span>"
    return f'<details id="{escape(run.name)}"><summary>{head}</summary>{"".join(parts)}</details>'


def _samples(run: Run) -> list[str]:
    """The first validation images of the best evaluation, else of the last one."""
    parts = []
    pictures = sample_pictures(run.folder, run.events, best_iteration=run.best_iteration, panel_width=_PANEL_WIDTH)
    for name, picture in islice(pictures, _SAMPLES):
        if picture is None:
            parts.append(f'<p class="note">A sample image is missing: {escape(name)}</p>')
        else:
            parts.append(_picture(picture, f"{name}: image, truth and prediction"))
    return parts or ['<p class="note">No sample images.</p>']


def _chart(figure: Figure, alternative: str) -> str:
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=100)
    return _tag(data.getvalue(), "png", alternative, "chart")


def _picture(image: Image.Image, alternative: str) -> str:
    data = io.BytesIO()
    image.save(data, format="JPEG", quality=85)
    return _tag(data.getvalue(), "jpeg", alternative, "sample")


def _tag(data: bytes, kind: str, alternative: str, style: str) -> str:
    text = base64.b64encode(data).decode()
    return f'<img class="{style}" alt="{escape(alternative)}" src="data:image/{kind};base64,{text}">'
