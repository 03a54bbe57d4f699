"""The parent's side of the loader's worker processes: start, hand out tasks, collect results, notice deaths."""

from __future__ import annotations

import contextlib
import functools
import mmap
import os
import pickle
import select
import subprocess
import sys
import tempfile
import weakref
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from segnext.data.worker import DONE, REFUSED, RESULT, TASK, Job, bootstrap
from segnext.errors import ConfigError, DataError, SegNeXtError

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Outcome", "PoolOwner", "WorkerPool"]

_LIVENESS_SECONDS = 0.5


class Outcome(NamedTuple):
    """What became of a task: its place, the job's two figures, and the error to raise, if any."""

    slot: int
    row: int
    figures: tuple[int, int]
    error: SegNeXtError | None


class WorkerPool:
    """``workers`` processes that share ``slots`` slots of anonymous memory with this one.

    The memory has no name in the file system: nothing is left behind, however the processes end, and the size of
    ``/dev/shm`` does not matter. ``close`` may be called twice.

    Raises:
        ConfigError: the job cannot be pickled (say, its dataset class was made inside a function or a script).
    """

    def __init__(self, job: Job, *, workers: int, slots: int) -> None:
        self.slot_bytes = job.slot_bytes
        try:
            pickled_job = pickle.dumps(job)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ConfigError(
                f"the dataset or transform cannot be sent to worker processes: {error}; define its class at the top "
                "of a module that can be imported, or use workers=0"
            ) from error
        if b"\x08__main__" in pickled_job:  # a text of just this length: the name of a class's module
            raise ConfigError(
                "the dataset or transform is of a class defined in the script being run, which worker processes do "
                "not import; move it into a module, or use workers=0"
            )
        with contextlib.ExitStack() as undo:
            memory_fd = _anonymous_file(self.slot_bytes * slots)
            undo.callback(os.close, memory_fd)
            self.memory = mmap.mmap(memory_fd, self.slot_bytes * slots)
            task_read, task_write = os.pipe()
            result_read, result_write = os.pipe()
            for fd in (task_read, result_write):
                undo.callback(os.close, fd)
            os.set_blocking(task_read, False)
            fds = (task_read, result_write, memory_fd, self.slot_bytes * slots)
            setup = pickle.dumps(([os.path.abspath(p) for p in sys.path], os.getpid(), pickled_job, fds))
            setup_fd = _anonymous_file(len(setup))
            undo.callback(os.close, setup_fd)
            os.pwrite(setup_fd, setup, 0)
            self._task_fd, self._result_fd = task_write, result_read
            self._received = bytearray()
            self._outcomes: deque[Outcome] = deque()
            self._processes: list[subprocess.Popen[bytes]] = []
            # closes even when the owner forgets to, and at the interpreter's exit
            self._finalizer = weakref.finalize(self, _shut_down, os.getpid(), self._processes, task_write, result_read)
            command = [sys.executable, "-c", bootstrap(setup_fd, len(setup))]
            environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
            for _ in range(workers):
                self._processes.append(
                    subprocess.Popen(
                        command,
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        env=environment,
                        pass_fds=(task_read, result_write, memory_fd, setup_fd),
                        start_new_session=True,  # Ctrl-C in the terminal is for the parent alone
                    )
                )

    @property
    def process_ids(self) -> list[int]:
        return [process.pid for process in self._processes]

    def slot(self, number: int) -> memoryview:
        return memoryview(self.memory)[number * self.slot_bytes : (number + 1) * self.slot_bytes]

    def submit(self, slot: int, row: int, pass_number: int, index: int) -> None:
        os.write(self._task_fd, TASK.pack(slot, row, pass_number, index))

    def next_outcome(self) -> Outcome:
        """Waits for any task to end; there must be one under way.

        Raises:
            SegNeXtError: a worker process died.
        """
        while not self._outcomes:
            ready, _, _ = select.select([self._result_fd], [], [], _LIVENESS_SECONDS)
            if ready:
                self._receive()
            if not self._outcomes:
                self.check_alive()
        return self._outcomes.popleft()

    def _receive(self) -> None:
        self._received += os.read(self._result_fd, 1 << 16)
        while len(self._received) >= RESULT.size:
            slot, row, first, second, state, length = RESULT.unpack_from(self._received)
            end = RESULT.size + length
            if len(self._received) < end:
                return
            text = bytes(self._received[RESULT.size : end]).decode(errors="replace")
            del self._received[:end]
            error: SegNeXtError | None = None
            if state == REFUSED:
                error = DataError(text)
            elif state != DONE:
                error = SegNeXtError(f"a loader worker failed:\n{text}")
            self._outcomes.append(Outcome(slot, row, (first, second), error))

    def check_alive(self) -> None:
        """Raises SegNeXtError naming a worker process that has died."""
        for process in self._processes:
            code = process.poll()
            if code is not None:
                how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
                raise SegNeXtError(
                    f"loader worker {process.pid} {how}; if memory ran out, use fewer workers (workers=0 works "
                    "without processes), otherwise see its message above"
                )

    def close(self) -> None:
        """Ends the workers at once."""
        self._finalizer()


class PoolOwner:
    """What the loaders share: worker pools that end with the ``with`` block, and one started ahead of its use."""

    def __init__(self, job: Job, *, workers: int, slots: int) -> None:
        if workers < 0:
            raise ConfigError(f"the number of loader workers must be 0 or more, not {workers}")
        self._new_pool = functools.partial(WorkerPool, job, workers=workers, slots=slots)
        self._workers = workers
        self._open: list[WorkerPool] = []
        self._idle: WorkerPool | None = None

    def take_pool(self) -> WorkerPool:
        """The pool that waits, or a new one; each iteration has its own, so what it leaves unread goes with it."""
        pool, self._idle = self._idle, None
        if pool is None:
            pool = self._new_pool()
            self._open.append(pool)
        return pool

    def drop_pool(self, pool: WorkerPool) -> None:
        pool.close()
        if pool in self._open:
            self._open.remove(pool)

    def close(self) -> None:
        """Ends all workers at once; a later iteration starts new ones."""
        self._idle = None
        while self._open:
            self._open.pop().close()

    def __enter__(self) -> Self:
        if self._workers and self._idle is None:
            self._idle = self.take_pool()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _shut_down(owner: int, processes: list[subprocess.Popen[bytes]], task_fd: int, result_fd: int) -> None:
    if os.getpid() != owner:  # a fork of the owner, made by somebody else
        return
    os.close(task_fd)
    os.close(result_fd)
    for process in processes:
        process.kill()  # whatever it is writing is not wanted any more
    for process in processes:
        process.wait()


def _anonymous_file(size: int) -> int:
    """A descriptor of a file without a name, in memory where the system can; sparse, so unused bytes cost nothing."""
    try:
        fd = os.memfd_create("segnext-loader")
    except (AttributeError, OSError):  # another system than Linux, or a sandbox that forbids it
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, size)
    return fd
