"""What a benchmark leaves: a record for benchmark.json, and the same for people, in tables of at most 80 columns."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from segnext import backend
from segnext.benchmark.profiling import Machine, OperatorKind
from segnext.benchmark.session import Row, Session

__all__ = ["operators_table", "print_summary", "record", "results_table"]

_ON_CROPS = ("train", "inference", "logits", "data", "start", "cold_start")
_NOTE = (
    "±: distance of the quartiles; above 10 % the machine had other work. GiB: peak memory of the process. "
    "MACs, bytes: share of the measured matrix-product rate ({:.3g} GMAC/s) and memory bandwidth ({:.3g} GB/s); "
    "training counts as 3 forward passes. ours ×: how many times as fast as that line we are."
)


def record(session: Session, machine: Machine) -> dict[str, Any]:
    """What benchmark.json holds."""
    return {
        "model": session.model.name,
        "num_classes": session.num_classes,
        "batch": session.batch,
        "crop": session.crop,
        "precision": session.precision,
        "versions": {name: version(name) for name in ("jittor", "numpy")} | session.versions,
        "machine": {
            "device": backend.device_name(),
            "processor": platform.processor() or platform.machine(),
            "cpus": os.cpu_count(),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
            "load": os.getloadavg(),
            **vars(machine),
        },
        "scaling": {what: vars(scaling) for what, scaling in session.scaling.items()},
        "rows": [row.record(machine) for row in session.rows],
        "operators": {what: [vars(kind) for kind in kinds] for what, kinds in session.operators.items()},
    }


def print_summary(session: Session, machine: Machine, console: Console) -> None:
    """Prints what was measured, and what the figures mean."""
    height, width = session.crop
    shown = []
    if any(row.what in _ON_CROPS for row in session.rows):
        shown.append(f"{session.batch} images of {height}×{width}")
    if session.evaluated:
        shown.append(f"an evaluation of {session.evaluated} images")
    console.print(", ".join([session.model.name, *shown, backend.device_name(), session.precision]))
    console.print(results_table(session.rows, machine))
    for what, scaling in session.scaling.items():
        console.print(f"{what} by {scaling}", soft_wrap=True)
    for what, kinds in session.operators.items():
        console.print(operators_table(what, kinds, machine))
    console.print(_NOTE.format(machine.macs_per_second / 1e9, machine.bytes_per_second / 1e9))
    console.print(f"load of the machine (running processes): {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")


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
