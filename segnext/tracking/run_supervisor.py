"""What watches over a run of several ranks from its first iteration to its end; nothing in a run of one process.

mpirun ends all ranks half a second after the first one has failed, mostly while rank 0 waits inside MPI and can't write
why. So rank 0 starts this module as a process of its own, in a session of its own, which marks the run as failed or
interrupted when rank 0 could not. Over a pipe it learns which signals rank 0 got (Python writes their numbers there at
once, also while the main thread waits) and, by the pipe's end, that rank 0 is gone. Who died first tells a failure from
a stop: a rank that ends before any signal came has failed.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import IO

from segnext.distributed.communicator import Communicator, Member
from segnext.errors import SegNeXtError
from segnext.tracking.run_folder import RunFolder

__all__ = ["RunSupervisor", "open_session", "rank_log"]

_DONE = 255  # no signal has this number
_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
_LAST_WORDS_SECONDS = 1.0  # other ranks write their errors and end


def rank_log(folder: Path, rank: int) -> Path:
    """The file for what concerns one rank alone."""
    return folder / "ranks" / f"{rank}.log"


@contextlib.contextmanager
def open_session(communicator: Communicator, folder: Path, members: list[Member]) -> Iterator[IO[str]]:
    """Opens this rank's log, starts the hang timer and, on rank 0, the supervisor; yields the log.

    An error that leaves the block is written to the log, whose last words become those of the run when rank 0 can't
    speak for it any more.
    """
    if communicator.size == 1:
        with open(os.devnull, "w", encoding="utf-8") as nothing:
            yield nothing
        return
    own = members[communicator.world.rank]
    path = rank_log(folder, own.rank)
    path.parent.mkdir(parents=True, exist_ok=True)
    local = {member.rank: member.pid for member in members if member.host == own.host}
    supervisor = RunSupervisor(folder, local) if communicator.is_main else None
    with path.open("w", encoding="utf-8", errors="backslashreplace") as log:
        for member in members if communicator.is_main else [own]:
            print(member, file=log, flush=True)
        communicator.hang_timer.start(log)
        try:
            with _stops_noticed():
                yield log
        except Exception as error:
            print("".join(traceback.format_exception(error)), file=log)
            print(f"error: rank {own.rank}: {error}", file=log, flush=True)
            if isinstance(error, SegNeXtError) and error.on_all_ranks:
                communicator.barrier()  # all wait: who ends before rank 0 has written its status ends rank 0 as well
            raise
        finally:
            communicator.hang_timer.stop()
            if supervisor is not None:
                supervisor.dismiss()


@contextlib.contextmanager
def _stops_noticed() -> Iterator[None]:
    """Outside of training, where there is nothing to save, a stop ends the process once the supervisor knows of it.

    An exception from a signal's handler would surface anywhere inside Jittor, as an error of another kind.
    """

    def end(number: int, frame: FrameType | None) -> None:
        os._exit(128 + number)

    before = {number: signal.getsignal(number) for number in _STOPS}
    for number, handler in before.items():
        if handler in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class RunSupervisor:
    """Rank 0's end of the pipe.

    Args:
        folder: the run's.
        pids: of the ranks on this machine, by rank.
    """

    def __init__(self, folder: Path, pids: dict[int, int]) -> None:
        read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        ranks = [f"{rank}:{pid}" for rank, pid in pids.items()]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "segnext.tracking.run_supervisor", str(folder), *ranks],
            stdin=read,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=Path(__file__).parents[2],
            start_new_session=True,
        )
        os.close(read)
        self._previous = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)

    def dismiss(self) -> None:
        """The run's state is written, whatever it is."""
        signal.set_wakeup_fd(self._previous)
        os.write(self._write, bytes([_DONE]))
        os.close(self._write)
        self._process.wait()


def _supervise(folder: Path, pids: dict[int, int], pipe: int) -> None:
    """Waits for the end of rank 0 and completes the run's status."""
    watched = {_pidfd(pid): rank for rank, pid in pids.items()}
    first_dead: int | None = None
    stopped_by: int | None = None
    open_pipe = True
    while open_pipe:
        ready, _, _ = select.select([pipe, *(fd for fd in watched if fd >= 0)], [], [])
        for fd in ready:
            if fd != pipe:
                rank = watched.pop(fd)
                first_dead = rank if first_dead is None and stopped_by is None else first_dead
        if pipe in ready:
            received = os.read(pipe, 4096)
            if _DONE in received:
                return
            stops = [number for number in received if number in _STOPS]
            stopped_by = stopped_by or (stops[0] if stops and first_dead is None else None)
            open_pipe = bool(received)
    _complete(folder, pids, first_dead, stopped_by)


def _complete(folder: Path, pids: dict[int, int], first_dead: int | None, stopped_by: int | None) -> None:
    run = RunFolder(folder)
    status = run.read_status()
    if status is None or status.state != "running" or status.pid != pids[0]:
        return
    if stopped_by is not None:
        name = signal.Signals(stopped_by).name
        run.complete_status(status, "interrupted", exit_reason=f"{name}, before it could save")
        return
    time.sleep(_LAST_WORDS_SECONDS)
    rank = first_dead or 0
    error = last_error(sorted((folder / "ranks").glob("[0-9]*.log")))
    killed = f"rank {rank} (process {pids[rank]}) was killed: out of memory?"
    run.complete_status(status, "failed", error=error or killed, exit_reason="a rank failed")


def last_error(logs: Sequence[Path]) -> str | None:
    """The last line that begins with ``error:`` in any of ``logs``, the first of them first."""
    for log in logs:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
        for line in reversed(lines):
            if line.startswith("error: "):
                return line.removeprefix("error: ")
    return None


def _pidfd(pid: int) -> int:
    """A descriptor that becomes readable when the process ends; −1 where the system has none."""
    try:
        return os.pidfd_open(pid)
    except (OSError, AttributeError):
        return -1


if __name__ == "__main__":
    names = dict(text.split(":") for text in sys.argv[2:])
    _supervise(Path(sys.argv[1]), {int(rank): int(pid) for rank, pid in names.items()}, sys.stdin.fileno())
