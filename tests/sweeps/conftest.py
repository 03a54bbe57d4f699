"""Sweeps of stand-ins: small scripts in the place of trainings, so that tests take moments."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from segnext.sweeps.job import Job, Record, read_record
from segnext.sweeps.scheduler import Scheduler
from segnext.sweeps.slots import Slot

STAND_IN = Path(__file__).with_name("stand_in.py")


class Recorder:
    """A display that remembers what it was shown."""

    def __init__(self) -> None:
        self.shown: list[Record] = []

    def update(self, record: Record) -> None:
        self.shown.append(record)

    def tick(self) -> None:
        pass

    def most_at_once(self) -> int:
        """The highest number of jobs that ran at one time."""
        states: dict[str, str] = {}
        most = 0
        for record in self.shown:
            states[record.job] = record.state
            most = max(most, sum(state == "running" for state in states.values()))
        return most

    def started(self) -> list[str]:
        return [record.job for record in self.shown if record.state == "running"]


class StandInSweep:
    """A sweep in ``folder`` whose jobs behave as their names' first word says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.display = Recorder()

    def jobs(self, *names: str) -> list[Job]:
        return [Job(name, (f"name={name}",), self.folder / name) for name in names]

    def run(self, names: Sequence[str], *, slots: int = 1, behave: dict[str, str] | None = None, **options: Any) -> Any:
        """Runs jobs; ``behave`` maps names to behaviours other than their first word."""
        self.display = Recorder()

        def command(job: Job) -> list[str]:
            behaviour = (behave or {}).get(job.name, job.name.split("-")[0])
            return [sys.executable, str(STAND_IN), str(job.folder), behaviour]

        places = [Slot(str(i), (self.folder / f"slot-{i}",), {"SLOT": str(i)}) for i in range(slots)]
        scheduler = Scheduler(slots=places, command=command, display=self.display, **options)
        return scheduler.run(self.jobs(*names))

    def record(self, name: str) -> Record:
        return read_record(self.jobs(name)[0])

    def states(self, *names: str) -> list[str]:
        return [self.record(name).state for name in names]


@pytest.fixture
def sweep(tmp_path: Path) -> StandInSweep:
    return StandInSweep(tmp_path / "sweep")


def wait_until(condition: Callable[[], object], *, seconds: float = 30.0) -> None:
    """Returns as soon as ``condition()`` is true; fails after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
