"""Tells what works here and whether a dataset is sound: `python -m runners.doctor dataset=ade dataset.root=DATA`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

try:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from segnext.app.runner import runner
    from segnext.app.schema import DoctorConfig
    from segnext.doctor import Finding, State, problem
    from segnext.doctor.dataset import DatasetExamination, class_share, examine_dataset
    from segnext.doctor.examination import examine_machine
    from segnext.doctor.warm import warm_cache
    from segnext.files import cache_home
    from segnext.progress import progress
except ImportError as error:  # what the doctor itself stands on
    raise SystemExit(f"error: {error}; install the project with its packages: pip install -e .") from None

_WIDTH = 80
_STYLES = {State.ok: "green", State.warning: "yellow", State.problem: "bold red"}
_ROWS = 24  # classes shown at most


@runner("doctor", DoctorConfig)
def main(config: DoctorConfig) -> int:
    console = Console(markup=False, emoji=False, highlight=False)
    console.width = min(console.width, _WIDTH)
    if config.warm:
        height, width = config.warm_crop
        warm_cache(config.warm_model, (height, width), device=config.device.value, announce=console.print)
        console.print(f"compiled ahead for model={config.warm_model}, crop {height}×{width}: {cache_home()}")
        return 0
    counts: Counter[State] = Counter()

    def show(findings: Iterable[Finding]) -> None:
        for finding in findings:
            counts[finding.state] += 1
            console.print(_line(finding))

    with console.status("looking around"):
        show(
            examine_machine(
                device=config.device.value,
                output_dir=config.output_dir,
                trial=config.trial,
                announce=console.print,
            )
        )
    if config.dataset.name != "none":
        console.print(f"\ndataset={config.dataset.name} {config.dataset.root or ''}", style="bold", soft_wrap=True)
        examination = _examine(config, console)
        show(examination.findings)
        if examination.reports:
            console.print(_class_table(examination))
    console.print(_verdict(counts), style=_STYLES[max(counts, key=list(State).index)])
    return 1 if counts[State.problem] else 0


def _examine(config: DoctorConfig, console: Console) -> DatasetExamination:
    """Looks at the dataset behind a progress bar."""
    try:
        from segnext.data.creation import create_dataset  # here, since it imports OpenCV
    except ImportError as error:
        cure = "pip install opencv-python-headless, and no other OpenCV beside it"
        return DatasetExamination(findings=[problem("images", str(error), cure)])
    with progress(console, "listing files") as report:
        return examine_dataset(
            lambda split: create_dataset(config.dataset, split=split),
            limit=config.max_images,
            workers=config.workers,
            progress=lambda split, done, total: report(done, total, split),
        )


def _line(finding: Finding) -> Table:
    """State, topic and text side by side; the cure below the text."""
    line = Table.grid(padding=(0, 1))
    line.add_column(width=7)
    line.add_column(width=8, no_wrap=True)
    line.add_column(ratio=1, overflow="fold")
    text = Text(finding.text)
    if finding.cure:
        text.append(f"\n→ {finding.cure}", style="bold")
    line.add_row(Text(finding.state.value, _STYLES[finding.state]), finding.topic, text)
    return line


def _class_table(examination: DatasetExamination) -> Table:
    """Share of the labelled pixels in per cent and number of images, per class and split."""
    reports = examination.reports
    shares = {split: class_share(report) for split, report in reports.items()}
    names = next(iter(reports.values())).classes.names
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("", justify="right")
    table.add_column("class", no_wrap=True, overflow="ellipsis", max_width=28)
    for split in reports:
        table.add_column(f"{split}, % of pixels", justify="right")
        table.add_column("images", justify="right")
    order = list(range(len(names)))
    if len(names) > _ROWS:
        # Those never seen are named in a warning; the others by their share in the first split.
        order = [k for k in order if any(report.class_images[k] for report in reports.values())]
        order.sort(key=lambda k: -next(iter(shares.values()))[k])
    if len(order) > _ROWS:
        table.caption = f"the {_ROWS // 2} commonest and {_ROWS // 2} rarest of {len(order)} classes"
        order = [*order[: _ROWS // 2], *order[-(_ROWS // 2) :]]
    for k in order:
        cells = ((_percent(shares[split][k]), str(reports[split].class_images[k])) for split in reports)
        table.add_row(str(k), names[k].strip(), *(cell for pair in cells for cell in pair))
    return table


def _percent(share: float) -> str:
    return "–" if share == 0 else f"{100 * share:.2f}" if share >= 0.00005 else "<0.01"


def _verdict(counts: Counter[State]) -> str:
    def number(state: State) -> str:
        return f"{counts[state]} {state.value}{'s' * (counts[state] != 1)}"

    if counts[State.problem]:
        return f"Not healthy: {number(State.problem)}, {number(State.warning)}."
    return f"Healthy, {number(State.warning)}." if counts[State.warning] else "Healthy."


if __name__ == "__main__":
    main()
