"""The event log ``events.jsonl``: one JSON object a line, only ever appended to; everything else mirrors it.

A record:

    {"time": 1735689600.1, "iteration": 400, "kind": "train", "metrics": {"train/loss": 1.25, "train/lr": 6e-05}}

* ``time``: Unix seconds; ``iteration``: optimizer steps done so far (the x-axis of every curve).
* ``kind``: ``train`` and ``val`` hold the metrics whose names begin with it; ``summary`` holds figures of the
  whole run (``params``, ``macs``, …); ``images`` holds ``images``, a list of {name, image, truth, prediction} with
  paths relative to the run folder; ``start`` opens every session and holds ``info``, where the run took place,
  and ``changed``, the settings that differ from the session before, if any.
* ``metrics``: name → number. Names: ``train/loss``, ``train/lr``, ``train/grad_norm``, ``train/images_per_second``,
  ``val/mIoU``, ``val/mAcc``, ``val/aAcc``, ``val/IoU/<class>``; scores are fractions 0…1. A number that is not
  finite is written as null (strict JSON) and read as nan.

A ``start`` at iteration k says that the run went on from a checkpoint of iteration k: whatever had been logged past k
does not count any more. ``read_events`` leaves it out, so every curve has one value per iteration.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segnext.errors import TrainingError
from segnext.files import parse_json, read_file, strict_json

__all__ = ["MOST_ITERATIONS", "Event", "EventLog", "all_events", "read_events", "series"]


MOST_ITERATIONS = 10**8
_LARGEST = 4 << 30  # bytes of a log


@dataclass(frozen=True)
class Event:
    """One record of the log (fields: see the module's text); ``extra`` holds what is neither of the four others."""

    iteration: int
    kind: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    time: float = field(default_factory=time.time)

    def to_json(self) -> str:
        head = {"time": round(self.time, 3), "iteration": self.iteration, "kind": self.kind, "metrics": self.metrics}
        return strict_json(head | dict(self.extra))

    @classmethod
    def from_json(cls, line: str) -> Event:
        """Raises ValueError when ``line`` is not a record."""
        record = parse_json(line)
        if not isinstance(record, dict):
            raise ValueError("a record is a JSON object")
        images, figures = record.get("images", []), record.get("figures", {})
        if not isinstance(images, list) or not all(map(_plain_image, images)) or not isinstance(figures, dict):
            raise ValueError("images or figures of another form")
        try:
            metrics = {str(k): math.nan if v is None else float(v) for k, v in record.pop("metrics").items()}
            iteration = record.pop("iteration")
            if not isinstance(iteration, int) or not 0 <= iteration <= MOST_ITERATIONS:
                raise ValueError(f"iteration {iteration}")
            scores = [value for name, value in metrics.items() if _is_score(name)]
            if not all(0 <= score <= 1 or math.isnan(score) for score in scores):
                raise ValueError("a score is a fraction")
            return cls(
                iteration=iteration,
                kind=str(record.pop("kind")),
                metrics=metrics,
                time=float(record.pop("time")),
                extra=record,
            )
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"incomplete record: {error}") from error


def _is_score(name: str) -> bool:
    return name in ("val/mIoU", "val/mAcc", "val/aAcc") or name.startswith("val/IoU/")


def _plain_image(record: Any) -> bool:
    """Whether ``record`` names files, and none outside of the run folder."""
    return (
        isinstance(record, dict)
        and all(isinstance(part, str) for part in record.values())
        and not any(Path(part).is_absolute() or ".." in Path(part).parts for part in record.values())
    )


class EventLog:
    """Appends records to ``path``; each is on its way to the disk when ``append`` returns. One writer at a time."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._file = os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o644)
            # A power cut may have left half a line: end it, or it would swallow the next record.
            size = os.fstat(self._file).st_size
            if size and os.pread(self._file, 1, size - 1) != b"\n":
                os.write(self._file, b"\n")
        except OSError as error:
            raise self._failure(error) from error

    def append(self, event: Event) -> None:
        """Raises TrainingError when the record cannot be written: a run without its log is not worth its hours."""
        data = f"{event.to_json()}\n".encode(errors="backslashreplace")
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except OSError as error:
            raise self._failure(error) from error

    def close(self) -> None:
        """Flushes to the disk and closes; may be called twice."""
        if self._file >= 0:
            file, self._file = self._file, -1
            try:
                os.fsync(file)
            except OSError as error:
                raise self._failure(error) from error
            finally:
                os.close(file)

    def _failure(self, error: OSError) -> TrainingError:
        return TrainingError(f"cannot write {self.path} ({error.strerror}): free disk space, then resume the run")


def all_events(path: str | Path) -> Iterator[Event]:
    """Every whole record in the order written, also those that no longer count; damaged lines are skipped."""
    try:
        lines = read_file(Path(path), limit=_LARGEST).decode(errors="replace").split("\n")
    except OSError:
        return
    for line in lines:
        try:
            yield Event.from_json(line)
        except ValueError:
            continue


def read_events(path: str | Path) -> list[Event]:
    """The records that count, in order; empty when there is no file.

    Lines that are not records (the half-written last one of a killed run) are skipped, and records past the
    iteration from which the run was resumed are left out.
    """
    events: list[Event] = []
    for event in all_events(path):
        if event.kind == "start" and events:
            events = [earlier for earlier in events if earlier.iteration <= event.iteration]
        events.append(event)
    return events


def series(events: Iterable[Event], name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Iterations and values of one metric, equally long; of several values at one iteration the last one counts."""
    values = {event.iteration: event.metrics[name] for event in events if name in event.metrics}
    iterations = sorted(values)
    return np.array(iterations, np.int64), np.array([values[i] for i in iterations], np.float64)
