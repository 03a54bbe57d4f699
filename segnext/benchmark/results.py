"""The figures of a benchmark, as a table of at most 80 columns and as plain records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.table import Table

from segnext.benchmark.measuring import Timing
from segnext.benchmark.profiling import Machine, OperatorKind

__all__ = ["Row", "operators_table", "results_table"]


@dataclass(frozen=True)
class Row:
    """One workload of one contestant.

    Attributes:
        what: train, inference, logits, evaluate, data, start or cold_start.
        runs_on: Jittor, or PyTorch and its setting.
        peak_bytes: largest memory of the process (CPU) or the device (CUDA); None where not measured.
        macs: multiply-accumulates of one call; None where there are none.
        bytes: read and written by all operators of one call; None where not known.
        ratio: our speed over this one's, 1 for ourselves.
    """

    what: str
    runs_on: str
    timing: Timing
    peak_bytes: int | None = None
    macs: int | None = None
    bytes: float | None = None
    ratio: float | None = None

    def fractions(self, machine: Machine) -> tuple[float | None, float | None]:
        """(of the matrix-product rate, of the memory bandwidth) that the machine was measured to have."""
        macs = None if self.macs is None else self.macs / self.timing.median / machine.macs_per_second
        moved = None if self.bytes is None else self.bytes / self.timing.median / machine.bytes_per_second
        return macs, moved

    def record(self, machine: Machine) -> dict[str, Any]:
        """Everything for benchmark.json."""
        macs, moved = self.fractions(machine)
        return asdict(self) | {
            "median_seconds": self.timing.median,
            "images_per_second": self.timing.images_per_second,
            "spread": self.timing.spread,
            "fraction_of_macs_rate": macs,
            "fraction_of_bandwidth": moved,
        }


def results_table(rows: Sequence[Row], machine: Machine) -> Table:
    """One line a row; ``ours ×`` is how many times as fast as that row we are."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("what", no_wrap=True)
    table.add_column("on", no_wrap=True)
    for title in ("ms", "img/s", "±", "GiB", "MACs", "bytes", "ours ×"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        macs, moved = row.fractions(machine)
        timed_images = row.timing.images > 0
        table.add_row(
            row.what,
            row.runs_on,
            f"{1e3 * row.timing.median:.0f}",
            f"{row.timing.images_per_second:.3g}" if timed_images else "",
            _percent(row.timing.spread),
            "" if row.peak_bytes is None else f"{row.peak_bytes / 2**30:.2f}",
            _percent(macs),
            _percent(moved),
            "" if row.ratio is None else f"{row.ratio:.2f}",
        )
    return table


def operators_table(what: str, kinds: Sequence[OperatorKind], machine: Machine) -> Table:
    """Where the time of one call goes, and how close each kind of operator comes to the memory bandwidth."""
    total = sum(kind.seconds for kind in kinds)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column(f"operators of {what}", no_wrap=True)
    for title in ("calls", "ms", "time", "bandwidth"):
        table.add_column(title, justify="right", no_wrap=True)
    for kind in kinds:
        bandwidth = kind.bytes / kind.seconds / machine.bytes_per_second
        share = kind.seconds / total
        table.add_row(kind.name, str(kind.calls), f"{1e3 * kind.seconds:.1f}", _percent(share), _percent(bandwidth))
    return table


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{100 * fraction:.0f} %"
