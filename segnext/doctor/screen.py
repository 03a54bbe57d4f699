"""What the doctor has found, on a screen of 80 columns."""

from __future__ import annotations

from collections import Counter

from rich import box
from rich.table import Table
from rich.text import Text

from segnext.doctor import Finding, State
from segnext.doctor.dataset import DatasetExamination, class_share

__all__ = ["class_table", "finding_line", "verdict"]

_STYLES = {State.ok: "green", State.warning: "yellow", State.problem: "bold red"}
_ROWS = 24  # classes shown at most


def finding_line(finding: Finding) -> Table:
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


def class_table(examination: DatasetExamination) -> Table:
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


def verdict(counts: Counter[State]) -> Text:
    """One line about all findings."""

    def number(state: State) -> str:
        return f"{counts[state]} {state.value}{'s' * (counts[state] != 1)}"

    if counts[State.problem]:
        text = f"Not healthy: {number(State.problem)}, {number(State.warning)}."
    else:
        text = f"Healthy, {number(State.warning)}." if counts[State.warning] else "Healthy."
    return Text(text, _STYLES[max(counts, key=list(State).index)])
