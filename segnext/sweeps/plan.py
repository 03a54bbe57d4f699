"""What a sweep would do: its jobs with settings, size and cost, and an estimate from earlier runs on this machine."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from segnext.models.complexity import complexity
from segnext.sweeps.job import Job, read_record
from segnext.tracking.events import read_events, series
from segnext.tracking.run_folder import RunFolder, select

__all__ = ["Experience", "gather_experience", "print_plan"]

WIDTH = 80
MOST_RUNS = 500  # that are read for an estimate, the latest first
# Runs are comparable when these settings of a job agree: their names here and in config.yaml.
_WORK = {"model": "model.name", "crop": "dataset.crop", "batch_size": "schedule.batch_size", "device": "device"}


@dataclass(frozen=True)
class Experience:
    """What earlier runs on this machine with the same model, crop, batch and device took.

    Attributes:
        images_per_second: median speed of training.
        device_memory_gib: the most device memory that any of them used; None where none measured it.
        runs: how many there are.
    """

    images_per_second: float
    device_memory_gib: float | None
    runs: int


def gather_experience(output_dir: Path) -> dict[tuple[str, ...], Experience]:
    """Reads all runs of this host below ``output_dir``, by the kind of their work."""
    speeds: dict[tuple[str, ...], list[float]] = {}
    memory: dict[tuple[str, ...], list[float]] = {}
    paths = sorted(output_dir.rglob("events.jsonl"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in paths[:MOST_RUNS]:
        run = RunFolder(path.parent)
        status = run.read_status()
        if status is None or status.host != socket.gethostname():
            continue
        config = run.read_config()
        settings = {name: select(config, key) for name, key in _WORK.items()}
        if None in settings.values():  # a damaged file
            continue
        work = _kind(settings)
        events = read_events(path)
        # The first figure includes the compilation of operators.
        speed = series(events, "train/images_per_second")[1][1:]
        if len(speed):
            speeds.setdefault(work, []).append(float(median(speed)))
            memory.setdefault(work, []).extend(series(events, "train/device_memory_gib")[1])
    return {
        work: Experience(median(values), max(memory[work], default=None), len(values))
        for work, values in speeds.items()
    }


def print_plan(jobs: Sequence[Job], *, output_dir: Path, console: Console) -> None:
    """Prints the jobs; runs and writes nothing.

    A job's ``settings`` hold model, num_classes, flops_size (height, width), nmf_rank, iterations, batch_size, crop
    and device.
    """
    experience = gather_experience(output_dir)
    table = Table(title=f"{len(jobs)} jobs", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("job", "state"):
        table.add_column(name, overflow="fold")
    for name in ("iterations\n× batch", "params\nM", "MACs\nG", "time", "memory\nGiB"):
        table.add_column(name, justify="right")
    seconds: list[float | None] = []
    for job in jobs:
        settings = job.settings
        height, width = settings["flops_size"]
        cost = complexity(
            settings["model"],
            num_classes=settings["num_classes"],
            height=height,
            width=width,
            nmf_rank=settings["nmf_rank"],
        )
        known = experience.get(_kind(settings))
        images = settings["iterations"] * settings["batch_size"]
        seconds.append(None if known is None else images / known.images_per_second)
        memory = None if known is None else known.device_memory_gib
        table.add_row(
            Text(job.name),
            read_record(job).state,
            f"{settings['iterations']} × {settings['batch_size']}",
            f"{cost.params / 1e6:.2f}",
            f"{cost.macs / 1e9:.2f}",
            _duration(seconds[-1]),
            "unknown" if memory is None else f"{memory:.1f}",
        )
    console.print(table, width=WIDTH)
    for job in jobs:
        console.print(Text(f"{job.name}: {' '.join(job.overrides)}"), soft_wrap=True)
    known_seconds = [value for value in seconds if value is not None]
    total = _duration(sum(known_seconds)) if len(known_seconds) == len(jobs) else "unknown"
    console.print(
        f"Training one job after the other: {total}. Times are of training alone, from the speed of earlier runs on "
        "this machine with the same model, crop, batch and device; unknown where there are none. "
        "MACs: multiply-accumulates of one image (the paper calls them FLOPs). Nothing was run: sweep.dry_run=true.",
        soft_wrap=True,
    )


def _kind(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Texts that two jobs have in common if they do the same work."""
    values = (settings[key] for key in _WORK)
    return tuple(str(list(value) if isinstance(value, list | tuple) else value) for value in values)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes else "1 min"
