"""One process of a job: started under a guard, watched, stopped, and understood when it has ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segnext.files import FileLock
from segnext.sweeps.job import Job
from segnext.sweeps.ledger import JobState, best_miou, is_done
from segnext.tracking.run_folder import RunFolder, Status

__all__ = ["Attempt", "Ending", "start"]

OUTPUT = "output.log"
_GUARD = Path(__file__).with_name("job_supervisor.py")
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


@dataclass(frozen=True)
class Ending:
    """How a process of a job ended, in the ledger's terms."""

    state: JobState
    exit_code: int | None
    signal: str | None
    error: str | None
    best_mIoU: float | None


@dataclass(eq=False)
class Attempt:
    """A process of ``job`` that runs or has ended. ``stop_reason`` is set once it has been asked to stop."""

    job: Job
    stop_reason: str | None
    _process: subprocess.Popen[bytes]
    _output_start: int
    _status_before: Status | None

    def poll(self) -> int | None:
        """Exit code, or minus the signal, of the process; None while it runs."""
        code = self._process.poll()
        if code is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        return code

    def stop(self, reason: str) -> None:
        """Asks the job to save and end; within a few seconds it is made to."""
        if self.stop_reason is None and self.poll() is None:
            self.stop_reason = reason
            self._process.terminate()

    def ending(self) -> Ending:
        """What became of the ended process: its run folder tells first, its exit code and last words next."""
        code = self.poll()
        assert code is not None
        status = RunFolder(self.job.folder).read_status()
        fresh = status is not None and status != self._status_before
        miou = best_miou(self.job.folder) if fresh else None
        name = signal.Signals(-code).name if code < 0 else None
        exit_code = code if code >= 0 else None
        if code == 0 and fresh and is_done(self.job.folder):
            return Ending("finished", 0, None, None, miou)
        stopped = self.stop_reason is not None or (code > 128 and code - 128 in _STOPS)
        if stopped:
            reason = self.stop_reason or f"stopped by {signal.Signals(code - 128).name}"
            return Ending("interrupted", exit_code, name, reason, miou)
        words = (status.error if fresh and status is not None else None) or self._last_words()
        if name is not None:
            hint = " (out of memory?)" if name == "SIGKILL" else ""
            error = f"killed by {name}{hint}"
        elif code == 0:
            error = "ended with exit code 0 before the run was finished"
        else:
            error = words or f"ended with exit code {code} without a word"
        return Ending("failed", exit_code, name, error, miou)

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
) -> Attempt:
    """Starts ``command`` under a guard; its output is appended to ``output.log`` of the run folder.

    Args:
        held: locks that are to last as long as the guard does.
        environment: added to this process's own.
        grace: seconds that the job has to save and end when it is stopped, before it is killed.

    The guard stops the job when this process ends: it reads from a pipe that only this process can write to.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    status = RunFolder(job.folder).read_status()
    with (job.folder / OUTPUT).open("ab") as output:
        output_start = output.tell()
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_GUARD), str(grace), *command],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            pass_fds=[lock.fd for lock in held],
            start_new_session=True,  # Ctrl-C in the terminal is for the sweep alone
        )
    return Attempt(job, None, process, output_start, status)
