"""Locks on files, which the kernel lets go of when the last process that holds the file ends: no crash leaves one."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["FileLock"]


@dataclass(frozen=True)
class FileLock:
    """A lock that is held by this process and by those that inherit the descriptor ``fd``."""

    fd: int

    @classmethod
    def take(cls, path: Path) -> FileLock | None:
        """The lock on ``path``, or None while somebody else (or this process, by another call) has it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return cls(fd)

    def release(self) -> None:
        """Gives this process's hold up."""
        os.close(self.fd)
