"""Stopping between two iterations when a signal asks for it."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any

from segnext.errors import SegNeXtError

__all__ = ["Interrupted", "StopSignals"]

# SIGUSR1: SLURM's notice before preemption. SIGHUP: the terminal was closed, of which nohup wants to know nothing.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


class Interrupted(SegNeXtError):
    """A signal stopped the work after what was done was saved; the process should end with 128 + its number.

    Args:
        number: of the signal.
        when: in words, such as "after 3 of 10 images".
    """

    on_all_ranks = True

    def __init__(self, number: int, when: str) -> None:
        self._arguments = number, when
        self.signal_name = signal.Signals(number).name
        self.exit_code = 128 + number
        super().__init__(f"stopped by {self.signal_name} {when}")

    def __reduce__(self) -> tuple[type[Interrupted], tuple[int, str]]:
        return type(self), self._arguments  # it travels between ranks


class StopSignals:
    """Within its ``with`` block a first signal is remembered in ``received``; Ctrl-C after it ends at once.

    Args:
        at_once: a signal raises KeyboardInterrupt as well, for work that waits for something else than itself.

    Raises:
        Interrupted: at the end of the block, where a signal has made the work in it fail.

    Other signals may come twice, from a cluster to all processes of a job and from the sweep that runs it, and mean
    the same: an end in the middle of saving would help nobody.
    """

    def __init__(self, *, at_once: bool = False) -> None:
        self._at_once = at_once
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        wanted = [n for n in SIGNALS if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]
        self._previous = {number: signal.signal(number, self._remember) for number in wanted}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if self.received is not None and isinstance(error, RuntimeError):  # of Jittor, whose compilers it has ended
            raise Interrupted(self.received, "while operators were computed") from error

    def raise_if_received(self, when: str) -> None:
        """Raises Interrupted, saying ``when``, once a signal has come."""
        if self.received is not None:
            raise Interrupted(self.received, when)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or number
        signal.signal(signal.SIGINT, self._previous[signal.SIGINT])
        if self._at_once:
            raise KeyboardInterrupt
