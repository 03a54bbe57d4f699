"""One process of a job: started under a supervisor, watched, stopped, and understood when it has ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from segnext.files import FileLock
from segnext.sweeps.job import Job
from segnext.tracking.run_folder import LOCKED_FOR, RunFolder, Status

__all__ = ["JobProcess", "run_under_supervision", "start"]

OUTPUT = "output.log"
_SUPERVISOR = Path(__file__).with_name("job_supervisor.py")
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


@dataclass(eq=False)
class JobProcess:
    """A process of ``job`` that runs or has ended. ``stop_reason`` is set once it has been asked to stop."""

    job: Job
    _process: subprocess.Popen[bytes]
    _output_start: int
    _begun: Status
    stop_reason: str | None = None
    _stopped_as: Literal["interrupted", "pruned"] = "interrupted"

    def poll(self) -> int | None:
        """Exit code, or minus the signal, of the process; None while it runs."""
        code = self._process.poll()
        if code is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        return code

    def stop(self, reason: str, *, pruned: bool = False) -> None:
        """Asks the job to save and end; within a few seconds it is made to."""
        if self.stop_reason is None and self.poll() is None:
            self.stop_reason = reason
            self._stopped_as = "pruned" if pruned else "interrupted"
            self._process.terminate()

    def conclude(self) -> None:
        """Completes the status of the ended process's run by what the run could not say itself.

        The run folder is believed first, its exit code and last words next.
        """
        code = self.poll()
        assert code is not None
        run = RunFolder(self.job.folder)
        status = run.read_status() or self._begun
        spoke = status != self._begun
        if code == 0 and spoke and run.has_finished:
            return
        name = signal.Signals(-code).name if code < 0 else None
        state: Literal["failed", "interrupted", "pruned"] = "failed"
        if self.stop_reason is not None or (code > 128 and code - 128 in _STOPS):
            state = self._stopped_as
            error = self.stop_reason or f"stopped by {signal.Signals(code - 128).name}"
        elif name is not None:
            error = f"killed by {name}{' (out of memory?)' if name == 'SIGKILL' else ''}"
        elif code == 0:
            error = "ended with exit code 0 before the run was finished"
        else:
            words = (status.error if spoke else None) or self._last_words()
            error = words or f"ended with exit code {code} without a word"
        run.complete_status(
            status,
            state,
            error=error,
            exit_reason=status.exit_reason if spoke else None,
            exit_code=code if code >= 0 else None,
            signal=name,
        )

    def _last_words(self) -> str | None:
        """The last line that the process wrote, or the last one that begins with ``error:``."""
        with (self.job.folder / OUTPUT).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(self._output_start, size - 8192))
            text = file.read().decode(errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("error:")]
        last = (errors or lines or [""])[-1]
        return last.removeprefix("error:").strip() or None


def start(
    job: Job, command: Sequence[str], *, held: Sequence[FileLock], environment: Mapping[str, str], grace: float
) -> JobProcess:
    """Starts ``command`` under a supervisor; its output is appended to ``output.log`` of the run folder.

    Args:
        held: locks that are to last as long as the supervisor does, that of the run folder among them.
        environment: added to this process's own.
        grace: seconds that the job has to save and end when it is stopped, before it is killed.

    Raises:
        OSError: it could not be started; the run's status says so.
    """
    run, now = RunFolder(job.folder), time.time()
    before = run.read_status()
    attempts = 1 if before is None else before.attempts + 1
    begun = Status("running", None, None, os.getpid(), socket.gethostname(), now, now, attempts)
    run.put_status(begun)
    with (job.folder / OUTPUT).open("ab") as output:
        output_start = output.tell()
        added = {**environment, LOCKED_FOR: str(job.folder)}
        try:
            process = run_under_supervision(command, output=output.fileno(), held=held, environment=added, grace=grace)
        except OSError as error:  # no memory or no process left, which may pass
            run.complete_status(begun, "failed", error=f"could not be started: {error}")
            raise
    return JobProcess(job, process, output_start, begun)


def run_under_supervision(
    command: Sequence[str],
    *,
    output: int,
    held: Sequence[FileLock] = (),
    environment: Mapping[str, str] | None = None,
    grace: float,
) -> subprocess.Popen[bytes]:
    """Starts ``command`` under a supervisor that stops it when this process ends, however that comes about.

    The supervisor reads from a pipe that only this process can write to.
    """
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(_SUPERVISOR), str(grace), *command],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=subprocess.STDOUT,
        env={**os.environ, **(environment or {})},
        pass_fds=[lock.fd for lock in held],
        start_new_session=True,  # Ctrl-C in the terminal is for the sweep alone
    )
