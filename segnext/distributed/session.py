"""What watches over a run of several ranks from its first iteration to its end; nothing in a run of one process."""

from __future__ import annotations

import contextlib
import os
import signal
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import IO

from segnext.distributed.communicator import Communicator, Member
from segnext.distributed.run_supervisor import STOPS, RunSupervisor
from segnext.errors import SegNeXtError

__all__ = ["open_session", "rank_log"]


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
    with path.open("w", encoding="utf-8") as log:
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

    before = {number: signal.getsignal(number) for number in STOPS}
    for number, handler in before.items():
        if handler in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
