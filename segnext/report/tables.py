"""The report's figures as rows: one per run, one per group of seeds, and what is missing."""

from __future__ import annotations

import csv
import io
import math
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rich.console import Console
from rich.table import Table

from segnext.plots.charts import Point
from segnext.report.collect import Run
from segnext.settings import literal

__all__ = [
    "COLUMNS", "Group", "cost_points", "groups", "missing", "paper_points", "print_runs", "ranked", "to_csv",
]  # fmt: skip


@dataclass(frozen=True)
class Column:
    """One column: ``value`` is what is sorted and exported, ``text`` what is shown."""

    title: str
    value: Callable[[Run], Any]
    text: Callable[[Any], str] = lambda value: "–" if value is None or value != value else str(value)
    numeric: bool = True


def _shown(pattern: str, factor: float = 1.0) -> Callable[[Any], str]:
    return lambda value: "–" if value is None or math.isnan(value) else pattern.format(value * factor)


COLUMNS = (
    Column("run", lambda r: r.name, numeric=False),
    Column("model", lambda r: r.model, numeric=False),
    Column("dataset", lambda r: r.dataset, numeric=False),
    Column("settings", lambda r: r.settings, numeric=False),
    Column("seed", lambda r: r.seed),
    Column("mIoU ss %", lambda r: r.miou_ss, _shown("{:.1f}", 100)),
    Column("mIoU ms %", lambda r: r.miou_ms, _shown("{:.1f}", 100)),
    Column("best at", lambda r: r.best_iteration),
    Column("params M", lambda r: r.params, _shown("{:.3g}", 1e-6)),
    Column("MACs G", lambda r: r.macs, _shown("{:.3g}", 1e-9)),
    Column("images/s", lambda r: r.images_per_second, _shown("{:.3g}")),
    Column("peak GiB", lambda r: r.peak_memory, _shown("{:.1f}")),
    Column("state", lambda r: r.state, numeric=False),
)

_ON_SCREEN = ("run", "seed", "mIoU ss %", "mIoU ms %", "best at", "MACs G", "state")


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed alone. Means and sample standard deviations over finished runs; fractions."""

    label: str
    runs: tuple[Run, ...]

    @property
    def finished(self) -> tuple[Run, ...]:
        """The runs that have come to their end."""
        return tuple(run for run in self.runs if run.state == "finished")

    def spread(self, score: str) -> tuple[float, float, int]:
        """Mean, standard deviation (nan below two runs) and number of the finished runs' ``miou_ss`` or ``miou_ms``."""
        values = [v for v in (getattr(run, score) for run in self.finished) if not math.isnan(v)]
        return (
            mean(values) if values else math.nan,
            stdev(values) if len(values) > 1 else math.nan,
            len(values),
        )


def groups(runs: Sequence[Run]) -> list[Group]:
    """The runs by model, dataset and settings, in the order of the runs."""
    by_key: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        by_key.setdefault((run.model, run.dataset, run.settings), []).append(run)
    return [Group(own[0].label, tuple(own)) for own in by_key.values()]


def ranked(runs: Sequence[Run]) -> list[Run]:
    """By dataset, the best run first; runs without a score last."""
    return sorted(runs, key=lambda r: (r.dataset, math.isnan(r.miou_ss), -r.miou_ss, r.name))


def cost_points(runs: Sequence[Run]) -> dict[str, list[Point]]:
    """One point per group with a score and a cost, by dataset."""
    points: dict[str, list[Point]] = {}
    for group in groups(runs):
        first = group.runs[0]
        score, sd, _ = group.spread("miou_ss")
        if first.macs and not math.isnan(score):
            label = " ".join([first.model, *(f"{name} {text}" for name, text in first.short_settings)])
            points.setdefault(first.dataset, []).append(Point(label, first.macs, score, 0.0 if math.isnan(sd) else sd))
    return points


def paper_points(runs: Sequence[Run]) -> dict[str, list[Point]]:
    """The paper's single-scale points of the models and datasets of the runs, by dataset, from cheap to dear."""
    known = {(run.dataset, run.model): run.paper for run in runs if run.paper is not None}
    points: dict[str, list[Point]] = {}
    for (dataset, model), paper in sorted(known.items(), key=lambda item: item[1].macs):
        points.setdefault(dataset, []).append(Point(model, paper.macs, paper.miou_ss))
    return points


def missing(runs: Sequence[Run]) -> list[str]:
    """What keeps the report from being complete, one sentence each."""
    lines = []
    for run in runs:
        done = f"{run.iteration} of {run.iterations or '?'} iterations"
        reason = f": {run.error}" if run.error else ""
        if run.state == "running":
            lines.append(f"{run.name} is still running ({done})")
        elif run.state == "lost":
            lines.append(f"{run.name} was killed at {done}; {_resume(run)}")
        elif run.state == "interrupted":
            lines.append(f"{run.name} is interrupted at {done}{reason}; {_resume(run)}")
        elif run.state != "finished":
            lines.append(f"{run.name} is {run.state} at {done}{reason}")
        elif math.isnan(run.miou_ss):
            lines.append(f"{run.name} has finished without an evaluation")
    without = [run for run in ranked(runs) if run.state == "finished" and math.isnan(run.miou_ms)]
    if without:
        names = f"{len(without)} runs, the first is {without[0].name}" if len(without) > 1 else without[0].name
        lines.append(f"no multi-scale evaluation of {names}: {_evaluate(without[0])}")
    return lines


def _resume(run: Run) -> str:
    setting = shlex.quote(f"resume={literal(_from_here(run.folder.path))}")
    return f"it goes on by: python -m runners.train {setting}"


def _evaluate(run: Run) -> str:
    """The command whose results lie where the report looks for them."""
    root = [run.folder.path, *run.folder.path.parents][len(Path(run.name).parts)]
    settings = {"checkpoint": run.folder.path, "output_dir": root}
    given = (shlex.quote(f"{key}={literal(_from_here(path))}") for key, path in settings.items())
    return f"python -m runners.evaluate tta=true {' '.join(given)}"


def _from_here(path: Path) -> str:
    """As the user may write it, without what is the same for all."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def to_csv(runs: Sequence[Run]) -> str:
    """One line per run; scores are fractions 0…1, params and MACs plain numbers, unknown figures empty."""
    titles = {
        "mIoU ss %": "mIoU_ss",
        "mIoU ms %": "mIoU_ms",
        "best at": "best_iteration",
        "params M": "params",
        "MACs G": "macs",
        "images/s": "images_per_second",
        "peak GiB": "peak_memory_gib",
    }
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*(titles.get(column.title, column.title) for column in COLUMNS), "error", "wandb"])
    for run in runs:
        values = [*(column.value(run) for column in COLUMNS), run.error, run.url]
        writer.writerow(["" if value is None or value != value else value for value in values])
    return text.getvalue()


def print_runs(runs: Sequence[Run], console: Console) -> None:
    """Prints the runs, the mean of each group, and what is missing."""
    table = Table(box=None, pad_edge=False)
    columns = [column for column in COLUMNS if column.title in _ON_SCREEN]
    for column in columns:
        table.add_column(column.title, justify="right" if column.numeric else "left")
    for run in ranked(runs):
        table.add_row(*(column.text(column.value(run)) for column in columns))
    console.print(table)
    console.print()
    for group in groups(runs):
        average, sd, count = group.spread("miou_ss")
        if count:
            spread = f" ± {100 * sd:.1f}" if sd == sd else ""
            console.print(f"{group.label}: mIoU {100 * average:.1f}{spread} % ({count} finished)")
    for line in missing(runs):
        console.print(f"- {line}")
