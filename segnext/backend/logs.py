"""Where Jittor and its compilers print: into a log, for a runner for good, for a library's user while Jittor starts."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from segnext.files import cache_home
from segnext.screen import open_screen

__all__ = ["decoders_into_log", "default_log", "into_log", "log_path", "log_to", "move_stderr"]

_moved_to: Path | None = None


def default_log() -> Path:
    """The log of whoever names none of its own."""
    return cache_home() / "jittor.log"


def log_path() -> Path:
    """The file that holds what Jittor and its compilers have printed so far."""
    return _moved_to or default_log()


def move_stderr(path: Path) -> None:
    """Points file descriptor 2 at ``path`` for good and gives Python's ``sys.stderr`` a descriptor of its own.

    Jittor's C++ side prints to descriptor 2 whenever it compiles an operator, at any time after the import.
    """
    global _moved_to
    _moved_to = path.absolute()
    log = _open(_moved_to)
    sys.stderr.flush()
    screen = os.dup(2)
    os.dup2(log, 2)
    os.close(log)
    sys.stderr = open_screen(screen)


def log_to(path: Path) -> None:
    """Sends to ``path`` from now on what Jittor and its compilers print; what they have printed goes there as well.

    Without a call of ``move_stderr`` there is nothing to be sent elsewhere.
    """
    global _moved_to
    if _moved_to is None:
        return
    before = _moved_to.read_bytes() if _moved_to.exists() else b""
    _moved_to.unlink(missing_ok=True)
    log = _open(path)
    os.write(log, before)
    os.dup2(log, 2)
    os.close(log)
    _moved_to = path.absolute()


@contextlib.contextmanager
def into_log() -> Iterator[None]:
    """Sends descriptors 1 and 2 and what Python code prints to the log; afterwards all are as they were."""
    sys.stdout.flush()
    sys.stderr.flush()
    before = os.dup(1), os.dup(2)
    log = _open(log_path())
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        with open(log, "w", buffering=1, encoding="utf-8") as file, contextlib.redirect_stdout(file):
            yield
    finally:
        for number, kept in enumerate(before, start=1):
            os.dup2(kept, number)
            os.close(kept)


@contextlib.contextmanager
def decoders_into_log() -> Iterator[None]:
    """Sends to the log what libraries print to descriptor 2 of a file without naming it; ``sys.stderr`` stays."""
    if _moved_to is not None and _moved_to.exists() and os.path.samestat(os.fstat(2), _moved_to.stat()):
        yield
        return
    sys.stderr.flush()
    before, screen = os.dup(2), sys.stderr
    log = _open(log_path())
    os.dup2(log, 2)
    os.close(log)
    sys.stderr = open_screen(before) if _is_on(screen, 2) else screen
    try:
        yield
    finally:
        sys.stderr.flush()
        sys.stderr = screen
        os.dup2(before, 2)
        os.close(before)


def _is_on(stream: TextIO, descriptor: int) -> bool:
    try:
        return stream.fileno() == descriptor
    except (OSError, ValueError):  # a stream in memory
        return False


def _open(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
