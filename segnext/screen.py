"""The user's screen: whatever becomes of it, writing to it does not end the work."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any, TextIO

__all__ = ["lasting_screen", "open_screen", "shown"]

_GONE = (errno.EPIPE, errno.EIO)  # a reader like `head` that has ended, a terminal that was closed


def lasting_screen() -> None:
    """Makes standard output and error last: closed ones lead nowhere, and characters unknown to them become escapes."""
    for number, name in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
        try:
            os.fstat(number)
        except OSError:  # the next file to be opened would take its place
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
            setattr(sys, name, None)
        stream = getattr(sys, name)
        if name != "stdin" and stream is getattr(sys, f"__{name}__"):
            setattr(sys, name, open_screen(number, like=stream))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def shown(name: str) -> str:
    """A name in letters alone: control characters, and bytes that are no UTF-8, become escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def open_screen(descriptor: int, *, like: TextIO | None = None) -> TextIO:
    """A text stream onto ``descriptor``, written line by line."""
    encoding = like.encoding if like is not None else "utf-8"
    file: Any = io.BufferedWriter(_Lasting(descriptor, "w", closefd=False))
    return io.TextIOWrapper(file, encoding, errors="backslashreplace", line_buffering=True)


class _Lasting(io.FileIO):
    def write(self, data: Any, /) -> int:
        try:
            return super().write(data) or 0
        except OSError as error:
            if error.errno not in _GONE:
                raise
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return len(memoryview(data).cast("B"))
