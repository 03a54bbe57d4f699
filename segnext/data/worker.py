"""The loader's child process: takes task records from a pipe, writes arrays into shared memory, reports by a pipe.

A worker is a bare Python process that imports this module, NumPy and OpenCV: no fork of a parent that holds Jittor or
CUDA, and no second import of the user's main module. Both pipes are shared by all workers. That needs no lock: records
are no longer than PIPE_BUF, so every write of one is atomic, and task records all have one size, so a read takes
exactly one. Whoever is free takes the next task; when the parent is gone, in whatever way, the task pipe ends, and so
does the worker.
"""

from __future__ import annotations

import mmap
import os
import pickle
import select
import signal
import struct
import traceback
from typing import Protocol

import cv2

from segnext.errors import SegNeXtError

__all__ = ["DONE", "FAILED", "REFUSED", "RESULT", "TASK", "Job", "bootstrap", "main"]

TASK = struct.Struct("<qqqq")
"""slot, row within the slot, pass over the dataset, index of the sample."""
RESULT = struct.Struct("<qqqqii")
"""slot, row, two figures of the job's own, state, length of the message that follows."""

DONE, REFUSED, FAILED = 0, 1, 2
"""States of a result: written; refused with a message fit for users; broken by a bug, with a traceback."""

_PARENT_CHECK_SECONDS = 2.0


class Job(Protocol):
    """What workers do with a task; pickled once per worker."""

    @property
    def slot_bytes(self) -> int:
        """Size of one slot of the shared memory."""
        ...

    def work(self, slot: memoryview, row: int, pass_number: int, index: int) -> tuple[int, int]:
        """Writes a sample into its place in the slot; returns two figures that the parent receives."""
        ...


def bootstrap(setup_fd: int, size: int) -> str:
    """The source text with which a fresh interpreter becomes a worker."""
    return (
        "import os, pickle, sys; "
        f"data = os.pread({setup_fd}, {size}, 0); "
        "path, parent, job, fds = pickle.loads(data); "
        "sys.path[:] = path; "
        "from segnext.data.worker import main; main(job, parent, *fds)"
    )


def main(pickled_job: bytes, parent: int, task_fd: int, result_fd: int, memory_fd: int, memory_bytes: int) -> None:
    """Works until the task pipe ends or the parent process is another than ``parent``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    cv2.setNumThreads(0)
    job: Job = pickle.loads(pickled_job)
    memory = memoryview(mmap.mmap(memory_fd, memory_bytes))
    while (task := _next_task(task_fd, parent)) is not None:
        slot, row, pass_number, index = TASK.unpack(task)
        place = memory[slot * job.slot_bytes : (slot + 1) * job.slot_bytes]
        first, second, state, message = 0, 0, DONE, b""
        try:
            first, second = job.work(place, row, pass_number, index)
        except SegNeXtError as error:
            state, message = REFUSED, str(error).encode()
        except BaseException:
            state, message = FAILED, traceback.format_exc().encode()
        # the end of a traceback says most; a record must stay within one atomic write
        room = select.PIPE_BUF - RESULT.size
        message = message[-room:] if state == FAILED else message[:room]
        try:
            os.write(result_fd, RESULT.pack(slot, row, first, second, state, len(message)) + message)
        except BrokenPipeError:
            return


def _next_task(task_fd: int, parent: int) -> bytes | None:
    """The next record, or None at the end; the descriptor doesn't block, since another worker may be faster."""
    while True:
        ready, _, _ = select.select([task_fd], [], [], _PARENT_CHECK_SECONDS)
        if not ready:
            if os.getppid() != parent:
                return None
            continue
        try:
            return os.read(task_fd, TASK.size) or None
        except BlockingIOError:
            continue
