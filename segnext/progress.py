"""How far some work is: a bar on a terminal, elsewhere a line every few seconds."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

__all__ = ["Report", "progress", "repeatedly"]

_EVERY = 8.0  # seconds between two lines


class Report(Protocol):
    """Tells how much is ``done``, and of what when ``total`` or ``what`` have become others."""

    def __call__(self, done: int, total: int | None = None, what: str | None = None) -> None: ...


@contextlib.contextmanager
def progress(console: Console, what: str, total: int | None = None, *, of_bytes: bool = False) -> Iterator[Report]:
    """Shows the work in the block, whose ``Report`` it is given. A terminal is left as it was."""
    if console.is_terminal:
        amount = (DownloadColumn(), TransferSpeedColumn()) if of_bytes else (MofNCompleteColumn(),)
        columns = (TextColumn("{task.description}", markup=False), BarColumn(24), *amount, TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(what, total=total)
            yield lambda done, total=None, what=None: bar.update(task, completed=done, total=total, description=what)
        return
    lines = _Lines(what, total, of_bytes)

    def speak() -> None:
        with contextlib.suppress(OSError):  # nobody reads any more: that is for the work to find
            console.print(lines.text(), markup=False, highlight=False, soft_wrap=True)

    with repeatedly(_EVERY, speak):
        yield lines


@contextlib.contextmanager
def repeatedly(seconds: float, action: Callable[[], object]) -> Iterator[None]:
    """Does ``action`` every so many seconds, in a thread of its own, until the block ends."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(seconds):
            action()

    thread = threading.Thread(target=repeat, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@dataclass
class _Lines:
    what: str
    total: int | None
    of_bytes: bool
    done: int = 0
    since: float = field(default_factory=time.monotonic)

    def __call__(self, done: int, total: int | None = None, what: str | None = None) -> None:
        self.done, self.total, self.what = done, total or self.total, what or self.what

    def text(self) -> str:
        """For example ``evaluating: 12 of 500 in 20 s``."""
        if not self.done and not self.total:
            return f"{self.what}: {time.monotonic() - self.since:.0f} s so far"
        number = decimal if self.of_bytes else str
        amount = number(self.done) + (f" of {number(self.total)}" if self.total else "")
        return f"{self.what}: {amount} in {time.monotonic() - self.since:.0f} s"
