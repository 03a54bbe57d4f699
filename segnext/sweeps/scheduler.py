"""Runs jobs, as many at a time as there are slots, whatever becomes of each; their run folders tell what did."""

from __future__ import annotations

import contextlib
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from segnext.files import FileLock
from segnext.sweeps.job import SETTLED, Job, Record, read_record
from segnext.sweeps.process import JobProcess, run_under_supervision, start
from segnext.sweeps.settings import OnFailure
from segnext.sweeps.slots import Slot
from segnext.sweeps.table import SweepDisplay
from segnext.tracking.run_folder import RunFolder

__all__ = ["Scheduler"]

POLL_SECONDS = 0.1
WATCH_SECONDS = 2.0  # between two looks at the curves of running jobs
WRONG_SETTINGS = 2  # exit code of a job whose configuration or data are wrong: trying again does not help


class Scheduler:
    """Runs the jobs of one sweep.

    Args:
        slots: where jobs can run.
        command: the command of a job's process; it goes on where the run folder says.
        grace: seconds that a stopped job has to save.
        first: a command to be over before several jobs start at once (it fills a cache that they share), and the file
            for its output.
        verdict: why a running job is not worth going on with, or None; asked now and then.
    """

    def __init__(
        self,
        *,
        slots: Sequence[Slot],
        command: Callable[[Job], Sequence[str]],
        display: SweepDisplay,
        on_failure: OnFailure | None = None,
        grace: float = 2.5,
        first: tuple[Sequence[str], Path] | None = None,
        verdict: Callable[[Job], str | None] | None = None,
    ) -> None:
        self._slots = slots
        self._command = command
        self._display = display
        self._on_failure = on_failure or OnFailure()
        self._grace = grace
        self._first = first
        self._verdict = verdict
        self._waiting: deque[Job] = deque()
        self._running: dict[JobProcess, list[FileLock]] = {}
        self._attempts: dict[str, int] = {}  # of each job when it was queued here
        self._failures: dict[str, int] = {}
        self._next_watch = 0.0

    def run(self, jobs: Sequence[Job]) -> int | None:
        """Runs those of ``jobs`` that are neither finished nor pruned.

        Returns:
            The number of the signal that stopped the sweep, or None. Jobs that run then save and are interrupted.
        """
        for job in jobs:
            record = self._show(job)
            if record.state not in SETTLED:
                self._queue(job, record)
        with _Signals() as signals:
            try:
                self._run_first(signals)
                while self._running or self._waiting:
                    if signals.received is not None:
                        self._stop_all("stopped with the sweep")
                    self._step()
            finally:  # also when a launcher's signal handler ends this process by an exception
                self._stop_all("stopped with the sweep")
                while self._running:
                    self._step()
        return signals.received

    def _step(self) -> None:
        self._reap()
        self._start_waiting()
        self._watch()
        self._display.tick()
        time.sleep(POLL_SECONDS)

    def _run_first(self, signals: _Signals) -> None:
        if self._first is None or min(len(self._slots), len(self._waiting)) < 2:
            return
        command, log = self._first
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            process = run_under_supervision(command, output=output.fileno(), grace=self._grace)
        try:
            while process.poll() is None and signals.received is None:
                self._display.tick()
                time.sleep(POLL_SECONDS)
        finally:
            assert process.stdin is not None
            process.stdin.close()  # which stops it, if it is not over
            process.wait()

    def _queue(self, job: Job, record: Record) -> None:
        self._attempts[job.name] = record.attempts
        self._waiting.append(job)

    def _start_waiting(self) -> None:
        for _ in range(len(self._waiting)):
            job = self._waiting[0]
            folder_lock = RunFolder(job.folder).lock()
            if folder_lock is None:  # another sweep or run is at work in it: wait and see what becomes of it
                self._waiting.rotate(-1)
                continue
            record = read_record(job)
            if record.state in SETTLED or record.attempts != self._attempts[job.name]:
                self._waiting.popleft()
                folder_lock.release()
                self._show(job)
                continue
            taken = next(((slot, locks) for slot in self._slots if (locks := slot.take()) is not None), None)
            if taken is None:
                folder_lock.release()
                return
            self._waiting.popleft()
            self._start(job, taken[0], [folder_lock, *taken[1]])

    def _start(self, job: Job, slot: Slot, held: list[FileLock]) -> None:
        try:
            process = start(job, self._command(job), held=held, environment=slot.environment, grace=self._grace)
        except OSError:
            self._end(job, held)
            return
        self._running[process] = held
        self._show(job)

    def _reap(self) -> None:
        for process in [process for process in self._running if process.poll() is not None]:
            process.conclude()
            self._end(process.job, self._running.pop(process))

    def _end(self, job: Job, held: list[FileLock]) -> None:
        record = self._show(job)
        for lock in held:
            lock.release()
        if record.state == "failed":
            self._after_failure(job, record)

    def _after_failure(self, job: Job, record: Record) -> None:
        failures = self._failures[job.name] = self._failures.get(job.name, 0) + 1
        if failures <= self._on_failure.retries and record.exit_code != WRONG_SETTINGS:
            self._queue(job, record)
        elif self._on_failure.stop:
            self._stop_all(f"stopped because {job.name} failed")

    def _stop_all(self, reason: str) -> None:
        self._waiting.clear()
        for process in self._running:
            process.stop(reason)

    def _watch(self) -> None:
        if self._verdict is None or time.monotonic() < self._next_watch:
            return
        self._next_watch = time.monotonic() + WATCH_SECONDS
        for process in self._running:
            if (reason := self._verdict(process.job)) is not None:
                process.stop(reason, pruned=True)

    def _show(self, job: Job) -> Record:
        record = read_record(job)
        self._display.update(record)
        return record


class _Signals:
    """Remembers the first of the signals that mean "stop" instead of letting it end this process.

    Outside the main thread, and where somebody else has taken a signal (a launcher does), it stays as it is.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> _Signals:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                with contextlib.suppress(ValueError):  # not the main thread
                    self._previous[number] = signal.signal(number, self._remember)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or number
