"""What a benchmark leaves: a record for benchmark.json, and the same for people."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from typing import Any

from rich.console import Console

from segnext import backend
from segnext.benchmark.profiling import Machine
from segnext.benchmark.results import operators_table, results_table
from segnext.benchmark.session import Session

__all__ = ["print_summary", "record"]

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
