"""The loader's worker processes: they write samples into shared memory; the parent hands out tasks, collects results.

A worker is a bare Python process that imports this module, NumPy and OpenCV: no fork of a parent that holds Jittor or
CUDA, and no second import of the user's main module. Both pipes are shared by all workers. That needs no lock: records
are no longer than PIPE_BUF, so every write of one is atomic, and task records all have one size, so a read takes
exactly one. Whoever is free takes the next task; when the parent is gone, in whatever way, the task pipe ends, and so
does the worker.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import mmap
import os
import pickle
import select
import signal
import struct
import subprocess
import sys
import tempfile
import traceback
import warnings
import weakref
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Protocol

import cv2

from segnext.data.reading import warn_once
from segnext.errors import ConfigError, DataError, SegNeXtError

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Job", "Outcome", "PoolOwner", "WorkerPool", "worker_main"]

_TASK = struct.Struct("<qqqq")
"""slot, row within the slot, pass over the dataset, index of the sample."""
_RESULT = struct.Struct("<qqqqii")
"""slot, row, two figures of the job's own, state, length of the message that follows."""

_DONE, _REFUSED, _FAILED = 0, 1, 2
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


def _bootstrap(setup_fd: int, size: int) -> str:
    """The source text with which a fresh interpreter becomes a worker."""
    return (
        "import os, pickle, sys; "
        f"data = os.pread({setup_fd}, {size}, 0); "
        "path, parent, job, fds = pickle.loads(data); "
        "sys.path[:] = path; "
        "from segnext.data.workers import worker_main; worker_main(job, parent, *fds)"
    )


def worker_main(
    pickled_job: bytes, parent: int, task_fd: int, result_fd: int, memory_fd: int, memory_bytes: int
) -> None:
    """Works until the task pipe ends or the parent process is another than ``parent``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    cv2.setNumThreads(0)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # ours name the file
    job: Job = pickle.loads(pickled_job)
    notes: list[str] = []
    logger = logging.getLogger("segnext")
    logger.addHandler(_Collector(notes))
    logger.propagate = False
    memory = memoryview(mmap.mmap(memory_fd, memory_bytes))
    while (task := _next_task(task_fd, parent)) is not None:
        slot, row, pass_number, index = _TASK.unpack(task)
        place = memory[slot * job.slot_bytes : (slot + 1) * job.slot_bytes]
        first, second, state, message = 0, 0, _DONE, b""
        try:
            first, second = job.work(place, row, pass_number, index)
            message = "\n".join(notes).encode(errors="backslashreplace")
        except SegNeXtError as error:
            state, message = _REFUSED, str(error).encode(errors="backslashreplace")
        except BaseException:
            state, message = _FAILED, traceback.format_exc().encode(errors="backslashreplace")
        notes.clear()
        # the end of a traceback says most; a record must stay within one atomic write
        room = select.PIPE_BUF - _RESULT.size
        message = message[-room:] if state == _FAILED else message[:room]
        try:
            os.write(result_fd, _RESULT.pack(slot, row, first, second, state, len(message)) + message)
        except BrokenPipeError:
            return


class _Collector(logging.Handler):
    """Keeps warnings for the parent, whose log is the user's."""

    def __init__(self, notes: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._notes = notes

    def emit(self, record: logging.LogRecord) -> None:
        self._notes.append(record.getMessage())


def _next_task(task_fd: int, parent: int) -> bytes | None:
    """The next record, or None at the end; the descriptor doesn't block, since another worker may be faster."""
    while True:
        ready, _, _ = select.select([task_fd], [], [], _PARENT_CHECK_SECONDS)
        if not ready:
            if os.getppid() != parent:
                return None
            continue
        try:
            return os.read(task_fd, _TASK.size) or None
        except BlockingIOError:
            continue


_LIVENESS_SECONDS = 0.5
_MOST_RESTARTS = 2

_log = logging.getLogger(__name__)


class LoaderWorkerError(RuntimeError):
    """Nobody foresaw what has gone wrong in a worker; the error's cause has the worker's traceback."""


class Outcome(NamedTuple):
    """What became of a task: its place, the job's two figures, and the error to raise, if any."""

    slot: int
    row: int
    figures: tuple[int, int]
    error: Exception | None


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
        memory_fd = _anonymous_file(self.slot_bytes * slots)
        self.memory = mmap.mmap(memory_fd, self.slot_bytes * slots)
        self._pickled_job, self._workers, self._slots = pickled_job, workers, slots
        self._restarts = 0
        self._under_way: dict[tuple[int, int], bytes] = {}  # task records by slot and row
        self._received = bytearray()
        self._outcomes: deque[Outcome] = deque()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._fds = [memory_fd]  # then the ends of the pipes for tasks and results
        # closes even when the owner forgets to, and at the interpreter's exit
        self._finalizer = weakref.finalize(self, _shut_down, os.getpid(), self._processes, self._fds)
        self._start()

    def _start(self) -> None:
        memory_fd = self._fds[0]
        with contextlib.ExitStack() as undo:
            task_read, task_write = os.pipe()
            result_read, result_write = os.pipe()
            self._fds += [task_write, result_read]
            for fd in (task_read, result_write):
                undo.callback(os.close, fd)
            os.set_blocking(task_read, False)
            fds = (task_read, result_write, memory_fd, self.slot_bytes * self._slots)
            setup = pickle.dumps(([os.path.abspath(p) for p in sys.path], os.getpid(), self._pickled_job, fds))
            setup_fd = _anonymous_file(len(setup))
            undo.callback(os.close, setup_fd)
            os.pwrite(setup_fd, setup, 0)
            command = [sys.executable, "-c", _bootstrap(setup_fd, len(setup))]
            environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
            for _ in range(self._workers):
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
        record = self._under_way[slot, row] = _TASK.pack(slot, row, pass_number, index)
        os.write(self._fds[1], record)

    def next_outcome(self) -> Outcome:
        """Waits for any task to end; there must be one under way.

        Raises:
            SegNeXtError: see ``keep_alive``.
        """
        while not self._outcomes:
            ready, _, _ = select.select([self._fds[2]], [], [], _LIVENESS_SECONDS)
            if ready:
                self._receive()
            if not self._outcomes:
                self.keep_alive()
        return self._outcomes.popleft()

    def _receive(self) -> bool:
        """Takes in what workers have written; False once none of them can write any more."""
        self._received += (data := os.read(self._fds[2], 1 << 16))
        while len(self._received) >= _RESULT.size:
            slot, row, first, second, state, length = _RESULT.unpack_from(self._received)
            end = _RESULT.size + length
            if len(self._received) < end:
                break
            text = bytes(self._received[_RESULT.size : end]).decode(errors="replace")
            del self._received[:end]
            error: Exception | None = None
            if state == _REFUSED:
                error = DataError(text)
            elif state != _DONE:
                error = LoaderWorkerError(text.strip().splitlines()[-1])
                error.__cause__ = RuntimeError(f"in a loader worker:\n{text}")
            else:
                for line in text.splitlines():
                    warn_once(line)
            del self._under_way[slot, row]
            self._outcomes.append(Outcome(slot, row, (first, second), error))
        return bool(data)

    def keep_alive(self) -> None:
        """Starts all workers anew where one has died, and gives them the tasks that are under way.

        Which task the dead one had is not known, and another worker must not write where a later sample lies.

        Raises:
            SegNeXtError: it is the third time; the process is named.
        """
        dead = next((process for process in self._processes if process.poll() is not None), None)
        if dead is None:
            return
        how = f"was killed by signal {-dead.returncode}" if dead.returncode < 0 else f"ended with {dead.returncode}"
        if self._restarts == _MOST_RESTARTS:
            raise SegNeXtError(
                f"loader worker {dead.pid} {how}, and so did others before; if memory ran out, use fewer workers "
                "(workers=0 works without processes), otherwise see its message above"
            )
        self._restarts += 1
        _log.warning("loader worker %d %s: workers start again", dead.pid, how)
        _end(self._processes)
        while self._receive():  # what they have finished
            pass
        while len(self._fds) > 1:
            os.close(self._fds.pop())
        self._start()
        for record in self._under_way.values():
            os.write(self._fds[1], record)

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

    def acquire_pool(self) -> WorkerPool:
        """The pool that waits, or a new one; each iteration has its own, so what it leaves unread goes with it."""
        pool, self._idle = self._idle, None
        if pool is None:
            pool = self._new_pool()
            self._open.append(pool)
        return pool

    def release_pool(self, pool: WorkerPool) -> None:
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
            self._idle = self.acquire_pool()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _shut_down(owner: int, processes: list[subprocess.Popen[bytes]], fds: list[int]) -> None:
    if os.getpid() != owner:  # a fork of the owner, made by somebody else
        return
    while fds:
        os.close(fds.pop())
    _end(processes)


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.kill()  # whatever it is writing is not wanted any more
    while processes:
        processes.pop().wait()


def _anonymous_file(size: int) -> int:
    """A descriptor of a file without a name, in memory where the system can; sparse, so unused bytes cost nothing."""
    try:
        fd = os.memfd_create("segnext-loader")
    except (AttributeError, OSError):  # another system than Linux, or a sandbox that forbids it
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, size)
    return fd
