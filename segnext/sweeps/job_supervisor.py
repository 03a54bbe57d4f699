"""Stands between a sweep and the process of one job, and sees to it that nothing of the job outlives the sweep.

Started as ``python -I -S job_supervisor.py GRACE COMMAND…`` with a pipe as its standard input whose other end the sweep
holds: the pipe's end of file says that the sweep is gone, however it went. It needs only the standard library.

* A stop (SIGTERM, SIGINT or SIGHUP to the supervisor, or the end of the sweep) becomes one SIGTERM to the job, which
  then saves and ends; after GRACE seconds it becomes SIGKILL.
* The supervisor adopts what the job leaves behind (loader workers, compilers, trackers), ends it, and only then ends
  itself in the way the job did: with its exit code, or by its signal.
* If the supervisor itself is killed, the kernel kills the job.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import select
import signal
import subprocess
import sys
import time

__all__: list[str] = []

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
LEFTOVERS_SECONDS = 1.0  # what a job leaves behind has this long to end after SIGTERM


def _prctl(option: int, value: int) -> None:
    with contextlib.suppress(OSError, AttributeError):  # only Linux has it; the pipe works everywhere
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _before_the_job_starts(supervisor: int) -> None:
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:  # it died before the line above
        os._exit(1)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    # SLURM sends its notice to every process of a job step; this one reaches the job as the supervisor's SIGTERM.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def _children() -> list[int]:
    """The processes whose parent the supervisor is, adopted ones included."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def _end_leftovers(deadline: float) -> None:
    """Ends adopted processes, and those that their ends bring up, by SIGTERM and at ``deadline`` by SIGKILL."""
    told: set[int] = set()
    while children := _children():
        late = time.monotonic() > deadline
        for child in children:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if late or child not in told:
                    os.kill(child, signal.SIGKILL if late else signal.SIGTERM)
            told.add(child)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.02)


def main() -> None:
    grace, command = float(sys.argv[1]), sys.argv[2:]
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    wake_read, wake_write = os.pipe()
    for fd in (wake_read, wake_write):
        os.set_blocking(fd, False)
    signal.set_wakeup_fd(wake_write)
    stop_asked = False

    def stop(number: int, frame: object) -> None:
        nonlocal stop_asked
        stop_asked = True

    for number in STOPS:
        signal.signal(number, stop)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)  # wakes the loop below
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)

    supervisor = os.getpid()
    job = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C in the terminal is for the sweep alone
        preexec_fn=lambda: _before_the_job_starts(supervisor),
    )
    sweep = sys.stdin.fileno()
    deadline: float | None = None
    watched = [wake_read, sweep]
    while job.poll() is None:
        ready, _, _ = select.select(watched, [], [], None if deadline is None else max(0, deadline - time.monotonic()))
        with contextlib.suppress(BlockingIOError):
            os.read(wake_read, 4096)
        if sweep in ready and not os.read(sweep, 4096):
            watched.remove(sweep)
            stop_asked = True
        if stop_asked and deadline is None:
            deadline = time.monotonic() + grace
            job.terminate()
        if deadline is not None and time.monotonic() >= deadline:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(job.pid, signal.SIGKILL)
    _end_leftovers(time.monotonic() + LEFTOVERS_SECONDS)
    if job.returncode < 0:
        fatal = -job.returncode
        if fatal != signal.SIGKILL:
            signal.signal(fatal, signal.SIG_DFL)
        os.kill(supervisor, fatal)
    os._exit(job.returncode & 0xFF)


if __name__ == "__main__":
    main()
