"""Compares runs: `python -m runners.report outputs/sweeps/NAME`; evaluations: `… compare A B`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from segnext.app.runner import runner
from segnext.app.schema import ReportConfig
from segnext.errors import ConfigError, DataError
from segnext.evaluation.compare import compare
from segnext.evaluation.metrics import PerImageCounts
from segnext.plots.charts import plot_cost, save
from segnext.report.collect import Run, collect
from segnext.report.page import to_html
from segnext.report.tables import COLUMNS, cost_points, groups, missing, paper_points, to_csv
from segnext.settings import literal
from segnext.tracking.wandb_sink import publish_dashboard

_ON_SCREEN = ("run", "seed", "mIoU ss %", "mIoU ms %", "best at", "MACs G", "state")


@runner("report", ReportConfig)
def report(config: ReportConfig) -> None:
    console = Console(markup=False, emoji=False, soft_wrap=True, highlight=False)
    if config.compare:
        return _compare(config, console)
    if config.dashboard is not None:
        return _publish(config.dashboard, console)
    if config.path is None:
        raise ConfigError("name the folder of a sweep: python -m runners.report outputs/sweeps/NAME")
    root = Path(config.path)
    runs = collect(root)
    _show(runs, console)
    place = Path(config.output) if config.output else root / "report"
    place.mkdir(parents=True, exist_ok=True)
    (place / "runs.csv").write_text(to_csv(runs), encoding="utf-8")
    save(plot_cost(cost_points(runs), reference=paper_points(runs)), place / "cost.png")
    (place / "index.html").write_text(to_html(runs, title=root.resolve().name), encoding="utf-8")
    console.print(f"\nPage: {place / 'index.html'}  table: {place / 'runs.csv'}  figure: {place / 'cost.png'}")
    return None


def _show(runs: Sequence[Run], console: Console) -> None:
    table = Table(box=None, pad_edge=False)
    columns = [column for column in COLUMNS if column.title in _ON_SCREEN]
    for column in columns:
        table.add_column(column.title, justify="right" if column.numeric else "left")
    for run in runs:
        table.add_row(*(column.text(column.value(run)) for column in columns))
    console.print(table)
    console.print()
    for group in groups(runs):
        average, sd, count = group.spread("miou_ss")
        if count:
            spread = f" ± {100 * sd:.2f}" if sd == sd else ""
            console.print(f"{group.label}: mIoU {100 * average:.2f}{spread} % ({count} finished)")
    for line in missing(runs):
        console.print(f"- {line}")


def _publish(place: str, console: Console) -> None:
    entity, _, project = place.partition("/")
    if not entity or not project:
        raise ConfigError(f"dashboard={place}: write dashboard=ENTITY/PROJECT")
    console.print(f"dashboard: {publish_dashboard(entity, project)}")


def _compare(config: ReportConfig, console: Console) -> None:
    if len(config.compare) != 2:
        raise ConfigError(
            f"{len(config.compare)} evaluations to compare: name two, python -m runners.report compare A B"
        )
    a, b = (PerImageCounts.load(_per_image(path)) for path in config.compare)
    result = compare(a, b, bootstrap_samples=config.bootstrap_samples)
    console.print(f"A {100 * result.mIoU_a:.2f} %  {config.compare[0]}")
    console.print(f"B {100 * result.mIoU_b:.2f} %  {config.compare[1]}")
    verdict = "differ" if result.significant else "cannot be told apart"
    low, high = 100 * result.low, 100 * result.high
    console.print(
        f"B - A: {100 * result.difference:+.2f} points mIoU, 95 % interval {low:+.2f} to {high:+.2f} "
        f"({result.images} images, {result.bootstrap_samples} draws): they {verdict}",
        style="bold",
    )


def _per_image(path: str) -> Path:
    """The file of per-image counts that ``path`` is or holds."""
    place = Path(path)
    file = place / "per_image.npz" if place.is_dir() else place
    if not file.is_file():
        raise DataError(
            f"{file} does not exist: name the folder of an evaluation (python -m runners.evaluate leaves it)"
        )
    return file


def overrides(arguments: Sequence[str]) -> list[str]:
    """Turns 'FOLDER …' and 'compare A B …' into Hydra's spelling; the rest stays as it is."""
    words = [word for word in arguments if "=" not in word and not word.startswith("-")]
    rest = [word for word in arguments if word not in words]
    if words[:1] == ["compare"]:
        return [f"compare=[{','.join(map(literal, words[1:]))}]", *rest] if words[1:] else ["compare=['']", *rest]
    if len(words) == 1 and not any(
        word in arguments for word in ("--config-dir", "-cd", "--config-name", "-cn", "--cfg", "-c")
    ):
        return [f"path={literal(words[0])}", *rest]
    return list(arguments)


def main() -> None:
    sys.argv[1:] = overrides(sys.argv[1:])
    report()


if __name__ == "__main__":
    main()
