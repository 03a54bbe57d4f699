"""What became of every job of a sweep, on disk: ``<sweep>/ledger/<job>.json``, one JSON object each.

    {"job": "tiny_seed=1-3fa2b1", "overrides": ["model=tiny", "seed=1"], "folder": "…", "state": "failed",
     "exit_code": null, "signal": "SIGKILL", "error": "killed by SIGKILL…", "attempts": 2, "best_mIoU": null,
     "started": 1735689600.1, "ended": 1735689700.2, "host": "node7"}

``state``: pending, running, finished, failed, interrupted (stopped from outside; goes on from its checkpoint) or
pruned. ``attempts`` counts processes; times are Unix seconds of the last one. Files are replaced as a whole.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from segnext.files import FileLock, strict_json, write_atomically
from segnext.sweeps.job import Job
from segnext.tracking.run_folder import RunFolder

__all__ = ["JobState", "Ledger", "Record", "best_miou", "is_done"]

JobState = Literal["pending", "running", "finished", "failed", "interrupted", "pruned"]


@dataclass(frozen=True)
class Record:
    """One entry of the ledger; fields as in the module's text."""

    job: str
    overrides: tuple[str, ...]
    folder: str
    state: JobState = "pending"
    exit_code: int | None = None
    signal: str | None = None
    error: str | None = None
    attempts: int = 0
    best_mIoU: float | None = None
    started: float | None = None
    ended: float | None = None
    host: str | None = None

    def but(self, **changes: Any) -> Record:
        """This record with other values in some fields."""
        return replace(self, **changes)


class Ledger:
    """The records of the sweep in ``folder``; several processes may use it at once."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).absolute()
        self._records = self.folder / "ledger"

    def read(self, job: Job) -> Record:
        """The record of ``job`` as it stands, a new one if there is none.

        The run folder has the last word on whether a job has finished. A record left ``running`` by a sweep that was
        killed is what the run folder says, or interrupted.
        """
        record = self._load(self._path(job)) or Record(job.name, job.overrides, str(job.folder))
        if is_done(job.folder):
            return record.but(state="finished", error=None, signal=None, best_mIoU=best_miou(job.folder))
        if record.state == "finished" or (record.state == "running" and not self._is_claimed(job)):
            return record.but(state="interrupted", error="the sweep ended before the job")
        return record

    def write(self, record: Record) -> None:
        self._records.mkdir(parents=True, exist_ok=True)
        write_atomically(self._records / f"{record.job}.json", strict_json(asdict(record), indent=2) + "\n")

    def records(self) -> list[Record]:
        """The records of all jobs on disk, as ``read`` gives them, by name."""
        loaded = (self._load(path) for path in sorted(self._records.glob("*.json")))
        return [self.read(Job(r.job, r.overrides, Path(r.folder))) for r in loaded if r is not None]

    def claim(self, job: Job) -> FileLock | None:
        """The right to run ``job``, or None while another process has it."""
        return FileLock.take(self._path(job).with_suffix(".lock"))

    def _is_claimed(self, job: Job) -> bool:
        claim = self.claim(job)
        if claim is not None:
            claim.release()
        return claim is None

    def _path(self, job: Job) -> Path:
        return self._records / f"{job.name}.json"

    @staticmethod
    def _load(path: Path) -> Record | None:
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            known = {field.name for field in fields(Record)}
            record = Record(**{key: value for key, value in values.items() if key in known})
            return record.but(overrides=tuple(record.overrides))
        except (OSError, ValueError, TypeError, AttributeError):
            return None


def is_done(folder: Path) -> bool:
    """Whether the run in ``folder`` has finished and left its figures."""
    run = RunFolder(folder)
    status = run.read_status()
    return status is not None and status.state == "finished" and bool(run.read_metrics())


def best_miou(folder: Path) -> float | None:
    """The best mIoU of the run in ``folder``, a fraction 0…1."""
    value = RunFolder(folder).read_metrics().get("best_mIoU")
    return None if value is None else float(value)
