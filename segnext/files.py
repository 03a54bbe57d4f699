"""Files that are whole or absent, whatever happens: atomic writes, locks, strict JSON, and the home of the caches."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segnext.errors import SegNeXtError, TrainingError

__all__ = ["FileLock", "cache_home", "link_atomically", "strict_json", "write_atomically"]


def cache_home() -> Path:
    """The folder of this project's own caches: ``SEGNEXT_HOME``, else ``~/.cache/segnext``."""
    return Path(os.environ.get("SEGNEXT_HOME") or Path.home() / ".cache" / "segnext")


def write_atomically(path: Path, content: str | bytes, *, error: type[SegNeXtError] = TrainingError) -> None:
    """Writes ``content`` to a temporary name and renames it, so that a reader sees the old or the new file, whole.

    A file name that is no UTF-8 is written with escapes, which JSON readers turn back into that name.

    Raises:
        SegNeXtError: of the kind ``error``: the disk is full or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_and_rename(path, content.encode(errors="backslashreplace") if isinstance(content, str) else content)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the rename itself
        finally:
            os.close(folder)
    except OSError as problem:
        raise error(f"cannot write {path} ({problem.strerror}): free disk space or choose another folder") from problem


def _write_and_rename(path: Path, content: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)  # mkstemp makes files that only their owner reads
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def link_atomically(link: Path, target: Path) -> None:
    """Makes or replaces a symbolic link in one step, so that processes starting together do not disturb each other."""
    link.parent.mkdir(parents=True, exist_ok=True)
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    os.replace(temporary, link)


def strict_json(value: Any, *, indent: int | None = None) -> str:
    """JSON any parser reads: numpy scalars become numbers, non-finite numbers become null."""
    return json.dumps(_plain(value), allow_nan=False, ensure_ascii=False, indent=indent)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value


@dataclass(frozen=True)
class FileLock:
    """A lock that is held by this process and by those that inherit the descriptor ``fd``.

    The kernel lets go of it when the last process that holds the file ends: no crash leaves one.
    """

    fd: int

    @classmethod
    def take(cls, path: Path) -> FileLock | None:
        """The lock on ``path``, or None while somebody else (or this process, by another call) has it."""
        fd = _open(path)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return cls(fd)

    @classmethod
    @contextlib.contextmanager
    def wait(cls, path: Path) -> Iterator[None]:
        """Holds the lock on ``path``, waiting for it as long as it takes."""
        fd = _open(path)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def release(self) -> None:
        """Gives this process's hold up."""
        os.close(self.fd)


def _open(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
