"""Compares runs: `python -m runners.report outputs/sweeps/NAME`; evaluations: `… compare A B`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from segnext.app.runner import runner
from segnext.app.schema import ReportConfig
from segnext.errors import ConfigError, DataError
from segnext.evaluation.compare import compare
from segnext.evaluation.metrics import PerImageCounts
from segnext.plots.charts import plot_cost, save
from segnext.progress import progress
from segnext.report.collect import collect
from segnext.report.live import serving
from segnext.report.page import to_html
from segnext.report.tables import cost_points, paper_points, print_runs, to_csv
from segnext.settings import literal
from segnext.tracking.dashboard import publish_dashboard
from segnext.tracking.run_folder import RunFolder


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
    if config.live:
        return _serve(root, config, console)
    console.print(f"reading the runs below {root}")
    with progress(console, "reporting"):
        runs = collect(root)
        print_runs(runs, console)
        place = Path(config.output) if config.output else root / "report"
        place.mkdir(parents=True, exist_ok=True)
        (place / "runs.csv").write_text(to_csv(runs), encoding="utf-8")
        save(plot_cost(cost_points(runs), reference=paper_points(runs)), place / "cost.png")
        (place / "index.html").write_text(to_html(runs, title=root.resolve().name), encoding="utf-8")
    console.print(f"\nPage: {place / 'index.html'}  table: {place / 'runs.csv'}  figure: {place / 'cost.png'}")
    return None


def _serve(root: Path, config: ReportConfig, console: Console) -> None:
    with serving(root, host=config.host, port=config.port) as server, suppress(KeyboardInterrupt):
        console.print(f"http://{config.host}:{server.server_port}/ shows all runs below {root} (Ctrl-C ends it)")
        server.serve_forever()


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
    """The file of per-image counts that ``path`` is or holds: of an evaluation, or of a run's best one."""
    place = Path(path)
    files = [folder / "per_image.npz" for folder in (place, RunFolder(place).evaluation)] if place.is_dir() else [place]
    file = next(filter(Path.is_file, files), files[0])
    if not file.is_file():
        raise DataError(
            f"{file} does not exist: name the folder of an evaluation (python -m runners.evaluate leaves it)"
        )
    return file


def overrides(arguments: Sequence[str]) -> list[str]:
    """Turns 'FOLDER …' and 'compare A B …' into Hydra's spelling; the rest stays as it is."""
    words = [word for word in arguments if not word.startswith("-") and ("=" not in word or Path(word).exists())]
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
