"""What a job of a sweep is, how jobs and sweeps are named, and what has become of a job as its run folder tells it."""

from __future__ import annotations

import hashlib
import re
import socket
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from segnext.tracking.run_folder import RunFolder, State, Status

__all__ = [
    "SETTLED", "Job", "JobState", "Record", "digest", "job_name", "own_overrides", "read_record", "read_records",
    "sweep_name",
]  # fmt: skip

JobState = State | Literal["pending"]
SETTLED = ("finished", "pruned")  # states of jobs that are not run again

_LONGEST = 60
_GROUPS = ("model", "dataset", "schedule", "experiment", "sweep")
# Say how jobs are run, not what they compute.
_NOT_ITS_OWN = re.compile(
    r"hydra[./@](?!sweeper).*|hydra.sweeper.n_(trials|jobs)|hydra|sweep\..*|output_dir|device|workers|ranks|rank_timeout"
)
_REAL_NUMBER = re.compile(r"[+-]?(\d+\.\d*|\.\d+|\d+(?=e))(e[+-]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Job:
    """One run of a sweep.

    Attributes:
        name: unique within the sweep; the name of its run folder.
        overrides: what the command line of its process says besides the folder.
        folder: its run folder.
        settings: what the tables show and estimates are made from, for example ``iterations``.
    """

    name: str
    overrides: tuple[str, ...]
    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """What has become of a job. ``attempts`` counts its processes; ``best_mIoU`` is a fraction 0…1."""

    job: str
    folder: Path
    state: JobState = "pending"
    exit_code: int | None = None
    signal: str | None = None
    error: str | None = None
    attempts: int = 0
    best_mIoU: float | None = None


def read_record(job: Job) -> Record:
    """What the run folder of ``job`` tells.

    A run that says it is running, or finished, while its process or its figures are gone, counts as interrupted.
    """
    run = RunFolder(job.folder)
    status = run.read_status()
    if status is None:
        return Record(job.name, job.folder)
    state: JobState = status.state
    error = status.error if state in SETTLED else status.error or status.exit_reason
    if state == "finished" and not run.has_finished:
        state, error = "interrupted", "its figures are missing"
    elif state == "running" and _is_gone(run, status):
        state, error = "interrupted", "the sweep ended before the job"
    best = run.read_metrics().get("best_mIoU")
    miou = float(best) if isinstance(best, int | float) else None
    return Record(job.name, job.folder, state, status.exit_code, status.signal, error, status.attempts, miou)


def read_records(sweep: Path) -> list[Record]:
    """The records of all jobs in the sweep's folder that have begun, by name."""
    folders = sorted(path.parent for path in sweep.glob("*/status.json"))
    return [read_record(Job(folder.name, (), folder)) for folder in folders]


def _is_gone(run: RunFolder, status: Status) -> bool:
    if status.host == socket.gethostname():
        return status.lost
    lock = run.lock()  # the process is on another machine: only the lock tells
    if lock is not None:
        lock.release()
    return lock is not None


def own_overrides(overrides: Sequence[str]) -> list[str]:
    """Those of ``overrides`` that decide what is computed: neither Hydra's nor the sweep's nor the machine's."""
    return [text for text in overrides if not _NOT_ITS_OWN.fullmatch(_key(text))]


def digest(overrides: Sequence[str]) -> str:
    """Six hexadecimal digits that tell sets of overrides apart, whatever their order."""
    return hashlib.sha256("\n".join(sorted(overrides)).encode()).hexdigest()[:6]


def job_name(overrides: Sequence[str], swept: Collection[str]) -> str:
    """For example ``tiny_ade_seed-1-3fa2b1``: the choices among which the sweep goes, then a digest of all.

    Args:
        overrides: of the job, ``KEY=VALUE`` each.
        swept: the keys that differ between jobs; none: all are shown.
    """
    own = own_overrides(overrides)
    return f"{_slug([text for text in own if _key(text) in swept] or own)}-{digest(own)}"


def sweep_name(overrides: Sequence[str], swept: Collection[str]) -> str:
    """For example ``tiny+small_ade-91c0de``: the same command gives the same name, another command another."""
    own = own_overrides(overrides)
    return f"{_slug([text for text in own if _key(text) in _GROUPS or _key(text) in swept])}-{digest(own)}"


def _slug(overrides: Sequence[str]) -> str:
    """The overrides in characters that Hydra's command line and every file system take as they are."""
    parts = []
    for text in overrides:
        key, value = _key(text), _REAL_NUMBER.sub(_rounded, text.partition("=")[2])
        # A choice of a group (model=tiny) speaks for itself, a setting needs its name.
        parts.append(value if key in _GROUPS else f"{key.rsplit('.', 1)[-1]}-{value}")
    slug = re.sub(r"[^\w.+-]+", "", "_".join(parts).replace(",", "+"), flags=re.ASCII)
    return slug[:_LONGEST].strip("_.+-") or "jobs"


def _rounded(number: re.Match[str]) -> str:
    return f"{float(number[0]):.4g}"


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")
