"""Ends a rank that makes no progress, so that a run that hangs fails with a reason instead of holding its GPUs.

A thread looks at the time; it can't do so while the main thread waits inside Jittor, which keeps Python's lock. For
that case ``faulthandler`` stands behind it with a clock of its own.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import IO

__all__ = ["HUNG", "HangTimer"]

HUNG = 70  # exit code of a rank that was ended
_PATIENCE = 3.0  # seconds that who waits for other ranks gives the one that hangs to speak first


class HangTimer:
    """Watches between ``start`` and ``stop``; ``reset`` tells it of progress.

    Args:
        timeout: seconds without progress; 0 waits forever.
        rank: named in the message.
    """

    def __init__(self, timeout: float, *, rank: int) -> None:
        self._timeout = timeout
        self._rank = rank
        self._last = time.monotonic()
        self._doing = "starting"
        self._waits = False
        self._stopped = threading.Event()
        self._log: IO[str] | None = None

    def start(self, log: IO[str]) -> None:
        """Starts the timer; when it runs out, what every thread was doing is written into ``log``."""
        if self._timeout:
            self._log = log
            self.reset("starting")
            threading.Thread(target=self._watch, args=(threading.main_thread().ident,), daemon=True).start()

    def reset(self, doing: str) -> None:
        """Starts the time anew, since there was progress; ``doing`` names the work for the message."""
        self._last, self._doing = time.monotonic(), doing
        if self._log is not None:
            faulthandler.dump_traceback_later(self._timeout + 2 * _PATIENCE, exit=True, file=self._log)

    def stop(self) -> None:
        self._stopped.set()
        if self._log is not None:
            faulthandler.cancel_dump_traceback_later()
            self._log = None

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Within it this rank waits for other ranks."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False

    def _watch(self, main_thread: int) -> None:
        while not self._stopped.wait(min(1.0, self._timeout / 4)):
            idle = time.monotonic() - self._last
            if idle > self._timeout + (_PATIENCE if self._waits else 0) and self._log is not None:
                frame = sys._current_frames().get(main_thread)
                place = traceback.extract_stack(frame)[-1] if frame is not None else None
                what = "waited for the other ranks" if self._waits else "made no progress"
                where = f", in {place.filename}:{place.lineno} ({place.name})" if place is not None else ""
                text = f"error: rank {self._rank} {what} for {idle:.0f} s while {self._doing}{where}"
                print(text, file=self._log, flush=True)
                print(text, file=sys.stderr, flush=True)
                faulthandler.dump_traceback(file=self._log)
                os._exit(HUNG)
