"""The core is compiled, and what is said of it by the process that waits, and of operators by the launcher.

Jittor holds Python's lock while operators compile, so no thread of this process could speak.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from segnext.backend.logs import log_path
from segnext.backend.world import leave_mpi
from segnext.errors import BackendError
from segnext.files import FileLock

__all__ = ["compile_core", "count_operators", "failed_operator"]

T = TypeVar("T")

_EVERY = 8.0  # seconds between two lines about the core
_LEAST = 16 << 20  # bytes; with less of them free, a compilation has failed for want of space
_FULL = (b"No space left on device", b"Disk quota exceeded", b"File too large")
_TAIL = 64 << 10  # bytes of the log in which the last compilation's output is looked for

_counter: Path | None = None


def count_operators(folder: Path, *, screen: int | None) -> None:
    """Lets the launcher count this process's operators in ``folder`` and write to the descriptor ``screen`` of it."""
    global _counter
    folder.mkdir(parents=True, exist_ok=True)
    _counter = folder / str(os.getpid())
    _forget(os.getpid())
    atexit.register(_forget, os.getpid())
    os.environ["SEGNEXT_COMPILED"] = str(_counter)
    os.environ.pop("SEGNEXT_SCREEN", None)
    if screen is not None:
        os.environ["SEGNEXT_SCREEN"] = f"/proc/{os.getpid()}/fd/{screen}"
        os.environ["SEGNEXT_LOG"] = f"/proc/{os.getpid()}/fd/2"


def compile_core(stamp: Path, announce: Callable[[str], None] | None, device: str) -> None:
    """Lets a child process compile the core, which leaves ``stamp`` when it is ready.

    Now and then Jittor's import ends the whole process with code 0 and asks to be started again, because it has
    rebuilt a part of itself; in a child that costs nothing, and this process then finds everything in the cache.

    Raises:
        BackendError: it could not be compiled.
    """
    if announce and device == "cuda":
        announce("Compiling Jittor's core and its CUDA libraries for the first time: some minutes, then it is cached.")
    elif announce:
        announce("Compiling Jittor's core for the first time: about a minute, then it is cached.")
    state = stamp.with_name("core.state")
    # Several processes may start at once. All that compiles holds the lock, also when this process has been killed.
    lock = _follow(lambda: FileLock.take(stamp.with_name("core.lock")), state, announce)
    try:
        for _ in range(3):
            if stamp.exists():
                return
            state.unlink(missing_ok=True)
            _compile_in_child([device, str(stamp), str(state)], lock, state, announce)
    finally:
        lock.release()
    if stamp.exists():
        return
    cure = "; device=cpu trains on the processor" if device == "cuda" else ""
    raise BackendError(f"Jittor's core could not be compiled: {_reason(stamp.parent)}{cure}")


def failed_operator(error: Exception) -> BackendError | None:
    """What to read where Jittor could not compile an operator; None if ``error`` is about something else."""
    if "[Error] source file location:" not in str(error):
        return None
    return BackendError(f"Jittor could not compile an operator: {_reason(Path(os.environ['JITTOR_HOME']))}")


def _reason(folder: Path) -> str:
    with contextlib.suppress(OSError):
        free = shutil.disk_usage(folder).free
        output = log_path().read_bytes()[-_TAIL:] if log_path().exists() else b""
        if free < _LEAST or any(text in output for text in _FULL):
            return f"the disk of {folder} is full ({free >> 20} MiB are free), free some or set SEGNEXT_HOME to another"
    return f"the compiler's output is in {log_path()}"


def _compile_in_child(
    arguments: Sequence[str], lock: FileLock, state: Path, announce: Callable[[str], None] | None
) -> None:
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join([path or os.getcwd() for path in sys.path])
    leave_mpi(environment)
    with log_path().open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "segnext.backend.core", *arguments],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            cwd=state.parent,
            env=environment,
            pass_fds=(lock.fd,),
        )
    try:
        _follow(lambda: child.poll() is not None or None, state, announce)
    except BaseException:
        child.kill()
        raise


def _follow(ready: Callable[[], T | None], state: Path, announce: Callable[[str], None] | None) -> T:
    """Waits for what ``ready`` returns; tells every few seconds what the process that compiles has written."""
    began = said = time.monotonic()
    while (result := ready()) is None:
        time.sleep(0.05)
        if announce is not None and time.monotonic() - said >= _EVERY:
            said = time.monotonic()
            text = state.read_text() if state.exists() else ""
            announce(f"Compiling Jittor's core: {text or 'started'} ({said - began:.0f} s so far)")
    return result


def _forget(process: int) -> None:
    if _counter is not None and os.getpid() == process:  # not in a child that was forked
        _counter.unlink(missing_ok=True)
        _counter.with_name(f"{_counter.name}.shown").unlink(missing_ok=True)
