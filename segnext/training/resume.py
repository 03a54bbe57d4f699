"""Finding the run that ``resume`` means, and what it still owes."""

from __future__ import annotations

from pathlib import Path

from segnext.errors import ConfigError
from segnext.tracking.events import read_events
from segnext.tracking.run_folder import RunFolder

__all__ = ["evaluated", "find_run"]


def find_run(resume: str, *, root: str | Path, name: str) -> RunFolder | None:
    """The folder of the run to go on with.

    Args:
        resume: a run folder, or ``auto`` for the latest run called ``name`` below ``root`` that has a checkpoint and
            has not finished.

    Returns:
        None when ``auto`` finds no such run.

    Raises:
        ConfigError: the folder named holds no run, or a finished one.
    """
    if resume == "auto":
        candidates = sorted((Path(root) / name).glob("*/status.json"), key=lambda path: path.stat().st_mtime)
        runs = [RunFolder.open(path.parent) for path in candidates]
        unfinished = [run for run in runs if not _finished(run) and _resumable(run)]
        return unfinished[-1] if unfinished else None
    run = RunFolder.open(resume)
    if _finished(run):
        raise ConfigError(f"resume={resume} has finished: start a new run, or raise schedule.iterations in a new one")
    return run


def evaluated(run: RunFolder, iteration: int) -> bool:
    """Whether the log holds an evaluation after ``iteration`` iterations (a stop may have come between save and it)."""
    return any(event.kind == "val" and event.iteration == iteration for event in read_events(run.events))


def _finished(run: RunFolder) -> bool:
    status = run.read_status()
    return status is not None and status.state == "finished"


def _resumable(run: RunFolder) -> bool:
    return (run.checkpoints / "latest.resume.safetensors").is_file()
