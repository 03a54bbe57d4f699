"""Stopping a job whose mIoU curve is hopeless against a reference curve."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from segnext.errors import ConfigError
from segnext.sweeps.job import Job, read_records
from segnext.tracking.events import read_events, series
from segnext.tracking.run_folder import RunFolder, select

__all__ = ["curve_judge", "hopeless"]


def curve_judge(
    reference: str | None, *, margin: float, jobs: Sequence[Job], sweep: Path
) -> Callable[[Job], str | None] | None:
    """The function that says why a running job is not worth going on with, or None; None when ``reference`` is.

    Args:
        reference: a run folder, or ``best``: the best finished job of the sweep on the job's dataset.
        margin: mIoU, a fraction, by which a curve must lie below the reference.
        jobs: those to be judged; their ``settings`` hold ``dataset``.
        sweep: the sweep's folder.

    Raises:
        ConfigError: the reference holds no mIoU curve, or is of another dataset than one of the jobs.
    """
    if reference is None:
        return None
    if reference == "best":
        return lambda job: _below_best(job, sweep, margin)
    folder = Path(reference)
    if not len(series(read_events(folder / "events.jsonl"), "val/mIoU")[0]):
        raise ConfigError(f"sweep.prune={reference} holds no mIoU curve: name the folder of an evaluated run")
    dataset = _dataset(folder)
    for job in jobs:
        if job.settings["dataset"] != dataset:
            raise ConfigError(
                f"sweep.prune={reference} is a run on {dataset}, job {job.name} on {job.settings['dataset']}: "
                "compare runs on one dataset, or use sweep.prune=best"
            )
    return lambda job: hopeless(job.folder, folder, margin=margin)


def _below_best(job: Job, sweep: Path, margin: float) -> str | None:
    finished = [record for record in read_records(sweep) if record.state == "finished"]
    peers = [record for record in finished if _dataset(record.folder) == job.settings["dataset"]]
    best = max(peers, key=lambda record: record.best_mIoU or 0.0, default=None)
    return None if best is None else hopeless(job.folder, best.folder, margin=margin)


@functools.cache
def _dataset(folder: Path) -> str | None:
    """The dataset of a run that has begun."""
    name = select(RunFolder(folder).read_config(), "dataset.name")
    return None if name is None else str(name)


def hopeless(run: Path, reference: Path, *, margin: float) -> str | None:
    """Why the run in ``run`` is not worth going on with, or None.

    Its latest mIoU is compared with that of ``reference`` at the same iteration, between two of whose evaluations
    the curve is a straight line; before the first and after the last of them nothing is said.
    """
    iterations, values = series(read_events(run / "events.jsonl"), "val/mIoU")
    known, curve = series(read_events(reference / "events.jsonl"), "val/mIoU")
    if not len(iterations) or not len(known) or not known[0] <= iterations[-1] <= known[-1]:
        return None
    expected = float(np.interp(iterations[-1], known, curve))
    if values[-1] >= expected - margin:
        return None
    return (
        f"mIoU {100 * values[-1]:.2f} % at iteration {iterations[-1]}, where {reference.name} had "
        f"{100 * expected:.2f} %"
    )
