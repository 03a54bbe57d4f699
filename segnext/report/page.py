"""The report as one HTML page: no file beside it, no network. ``page.html`` is its template, with a style and a script.

The charts are Plotly's (MIT licence); its bundle is packed into the page, which the browser unpacks.
"""

from __future__ import annotations

import base64
import gzip
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from segnext.files import strict_json
from segnext.plots.pages import render
from segnext.report.charts import (
    Curve,
    Figure,
    class_heat_map,
    cost_chart,
    importance_chart,
    line_chart,
    parallel_chart,
)
from segnext.report.collect import Run, setting_text, short_name
from segnext.report.details import Details, bootstrap_record, details
from segnext.report.search import importance, varied_settings
from segnext.report.tables import COLUMNS, Column, Group, cost_points, groups, missing, paper_points, ranked
from segnext.tracking.events import series

__all__ = ["to_html"]

_DETAILED = 8  # runs that are shown closely, the best ones
_COMPARED = 40  # runs of which any two can be compared
_NAMED = 6  # columns of the heat map that have room for names
_DRAWN = 40  # runs in the charts of curves and classes
_COLUMNS_OF_SETTINGS = 6  # at most; more share one column
_FEWEST_OF_A_SEARCH = 4


@dataclass(frozen=True)
class Cell:
    """What a table shows, and the ``value`` that it is sorted by; None or nan sorts last."""

    text: str
    value: Any = None
    numeric: bool = True

    @property
    def sort(self) -> str:
        return "" if self.value is None or self.value != self.value else str(self.value)


@dataclass(frozen=True)
class Table:
    """``titles``: (heading, whether the column holds numbers)."""

    identity: str
    titles: Sequence[tuple[str, bool]]
    rows: Sequence[Sequence[Cell]]


class _Figures:
    """The page's charts by number, as the script reads them."""

    def __init__(self) -> None:
        self.all: list[Figure] = []

    def __call__(self, figure: Figure | None) -> dict[str, Any] | None:
        """What the template needs of a chart; None for none."""
        if figure is None:
            return None
        self.all.append(figure)
        return {
            "number": len(self.all) - 1,
            "height": figure["layout"]["height"],
            "width": figure.pop("width", 0),
        }


def to_html(runs: Sequence[Run], *, title: str, live: bool = False) -> str:
    """The page of ``runs``; works with runs of any state.

    Args:
        live: the page asks whoever serves it for news (``live.py``).
    """
    figures = _Figures()
    ordered = ranked(runs)
    close = [details(run) for run in _closely(ordered)]
    records = [record for record in map(bootstrap_record, ordered[:_COMPARED]) if record is not None]
    parts = [_dataset(name, [run for run in ordered if run.dataset == name], figures) for name in _datasets(ordered)]
    context = {
        "title": title,
        "finished": sum(run.state == "finished" for run in runs),
        "made": datetime.now().strftime("%Y-%m-%d %H:%M:%S" if live else "%Y-%m-%d %H:%M"),
        "missing": missing(runs),
        "runs": ordered,
        "run_table": _run_table(ordered),
        "group_table": _group_table(groups(runs)),
        "datasets": parts,
        "details": [_close(part, figures) for part in close],
        "linked": {part.run.name for part in close},
        "compared": records if _comparable(records) else [],
    }
    data = {"figures": figures.all, "compared": context["compared"], "live": live}
    context |= {"data": _as_script(data), "plotly": _packed_plotly(), "include_raw": _raw}
    return render("report", "page.html", context)


def _raw(name: str) -> Markup:
    """A file beside this one, as it is."""
    return Markup(Path(__file__).with_name(name).read_text(encoding="utf-8"))


@lru_cache(maxsize=1)
def _packed_plotly() -> str:
    """Plotly's script, gzipped, in base64: two of its five megabytes."""
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()


def _as_script(data: Any) -> Markup:
    """JSON that can stand in a <script>."""
    return Markup(strict_json(data).replace("<", "\\u003c"))


def _closely(runs: Sequence[Run]) -> list[Run]:
    """The best runs of each dataset, as many of one as of another."""
    by_dataset = [[run for run in runs if run.dataset == name] for name in _datasets(runs)]
    return [own[rank] for rank in range(len(runs)) for own in by_dataset if rank < len(own)][:_DETAILED]


def _datasets(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(run.dataset for run in runs))


def _is_best(run: Run, runs: Sequence[Run]) -> bool:
    first = next(other for other in runs if other.dataset == run.dataset)
    return run is first and not math.isnan(run.miou_ss)


def _dataset(name: str, runs: Sequence[Run], figures: _Figures) -> dict[str, Any]:
    """What the page shows of one dataset; ``runs`` are its runs, ranked."""
    best = runs[0] if not math.isnan(runs[0].miou_ss) else None
    labels = [f"{k + 1}. {_label(run, runs)}" for k, run in enumerate(runs)]
    drawn = list(zip(labels, runs, strict=True))[:_DRAWN]
    curves = [Curve(label, series(run.events, "val/mIoU"), run is best) for label, run in drawn]
    losses = [Curve(label, series(run.events, "train/loss"), run is best) for label, run in drawn]
    cost = cost_chart(cost_points(runs).get(name, []), paper_points(runs).get(name, []))
    if len(drawn) > _NAMED:  # ranks say which run a column is
        heat = class_heat_map({f"#{k + 1}": iou for k, (_, run) in enumerate(drawn) if (iou := run.class_iou())})
    else:
        heat = class_heat_map({label: iou for label, run in drawn if (iou := run.class_iou())})
    return {
        "name": name,
        "best": None if best is None else _best(best, runs),
        "count": len(runs),
        "search": _search(runs, labels, figures),
        "cost": figures(cost),
        "curves": figures(line_chart(curves, title="validation mIoU, %", per_cent=True)),
        "losses": figures(line_chart(losses, title="training loss", per_cent=False)),
        "heat": figures(heat),
    }


def _best(run: Run, runs: Sequence[Run]) -> dict[str, Any]:
    seed = [("seed", run.seed)] if len({r.seed for r in runs}) > 1 else []
    return {
        "run": run,
        "miou": f"{100 * run.miou_ss:.1f}",
        "settings": [
            ("model", run.model),
            *run.short_settings,
            *seed,
        ],
        "paper": None if run.paper is None else f"{100 * run.paper.miou_ss:.1f}",
    }


def _search(runs: Sequence[Run], labels: Sequence[str], figures: _Figures) -> dict[str, Any] | None:
    """Parallel coordinates and importance, where settings were varied."""
    scored = [(run, label) for run, label in zip(runs, labels, strict=True) if not math.isnan(run.miou_ss)]
    settings = varied_settings([run for run, _ in scored])
    if len(scored) < _FEWEST_OF_A_SEARCH or not any(s.key != "model" for s in settings):
        return None
    scores = [run.miou_ss for run, _ in scored]
    shares = importance(settings, scores)
    if shares is not None:
        settings.sort(key=lambda s: -shares.get(s.key, 0.0))
    return {
        "parallel": figures(parallel_chart(settings[:12], scores, [label for _, label in scored])),
        "importance": None if shares is None else figures(importance_chart(shares)),
        "count": len(scored),
    }


def _label(run: Run, runs: Sequence[Run]) -> str:
    """What tells a run from the others, in short: its model, settings and seed."""
    parts = [run.model] if len({r.model for r in runs}) > 1 or not run.varied else []
    parts += [f"{name} {text}" for name, text in run.short_settings]
    if len({r.seed for r in runs}) > 1 and run.seed is not None:
        parts.append(f"seed {run.seed}")
    return " ".join(parts)


def _run_table(runs: Sequence[Run]) -> Table:
    """One row per run, the best first; a column in which all runs agree is left out, unless it is a figure."""
    keys = list(dict.fromkeys(key for run in runs for key in run.varied))
    columns: list[Column] = []
    for column in COLUMNS:
        if column.title == "settings" and 0 < len(keys) <= _COLUMNS_OF_SETTINGS:
            columns += [_setting_column(key, keys, runs) for key in keys]
            continue
        values = {column.text(column.value(run)) for run in runs}
        same = column.title in ("model", "dataset", "seed", "params M", "MACs G", "settings") and len(values) == 1
        if not ((same and len(runs) > 1) or values == {"–"} or values == {""}):
            columns.append(column)
    ranks: dict[str, int] = {}
    rows = []
    for run in runs:
        ranks[run.dataset] = ranks.get(run.dataset, 0) + 1
        rank = Cell("★" if _is_best(run, runs) else str(ranks[run.dataset]), ranks[run.dataset])
        rows.append([rank, *(Cell(c.text(c.value(run)), c.value(run), c.numeric) for c in columns)])
    return Table("runs", [("#", True), *((c.title, c.numeric) for c in columns)], rows)


def _setting_column(key: str, keys: Sequence[str], runs: Sequence[Run]) -> Column:
    values = [run.varied[key] for run in runs if key in run.varied]
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return Column(short_name(key, keys), lambda run: run.varied.get(key), setting_text, numeric)


def _group_table(by_group: Sequence[Group]) -> Table | None:
    """Mean and spread over seeds; None where no group has two runs."""
    if all(len(group.runs) < 2 for group in by_group):
        return None

    def spread(group: Group, score: str) -> Cell:
        average, sd, count = group.spread(score)
        if not count:
            return Cell("–")
        return Cell(f"{100 * average:.1f}" + (f" ± {100 * sd:.1f}" if not math.isnan(sd) else ""), average)

    def row(group: Group) -> list[Cell]:
        paper = group.runs[0].paper
        return [
            Cell(group.label, group.label, numeric=False),
            Cell(f"{group.spread('miou_ss')[2]} of {len(group.runs)}", len(group.runs)),
            spread(group, "miou_ss"),
            spread(group, "miou_ms"),
            Cell(f"{100 * paper.miou_ss:.1f}", paper.miou_ss) if paper else Cell("–"),
        ]

    numbers = ("finished", "mIoU ss % ± sd", "mIoU ms % ± sd", "paper ss %")
    return Table("groups", [("model, dataset", False), *((name, True) for name in numbers)], list(map(row, by_group)))


def _close(part: Details, figures: _Figures) -> dict[str, Any]:
    return {
        "part": part,
        "settings": part.run.short_settings,
        "classes": figures(part.class_curves),
        "losses": figures(part.losses),
        "confusion": figures(part.confusion),
    }


def _comparable(records: Sequence[Mapping[str, Any]]) -> bool:
    keys = [record["key"] for record in records]
    return len(set(keys)) < len(keys)
