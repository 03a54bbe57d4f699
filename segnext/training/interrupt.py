"""Stopping between two iterations when a signal asks for it."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any

from segnext.errors import SegNeXtError

__all__ = ["Interrupted", "StopSignals"]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)  # SIGUSR1: SLURM's notice before preemption


class Interrupted(SegNeXtError):
    """A signal stopped the run after its state was saved; the process should end with 128 + its number."""

    on_all_ranks = True

    def __init__(self, number: int, iteration: int) -> None:
        self._arguments = number, iteration
        self.signal_name = signal.Signals(number).name
        self.exit_code = 128 + number
        super().__init__(f"stopped by {self.signal_name} after iteration {iteration}; resume=auto goes on from there")

    def __reduce__(self) -> tuple[type[Interrupted], tuple[int, int]]:
        return type(self), self._arguments  # it travels between ranks


class StopSignals:
    """Within its ``with`` block a first signal is remembered in ``received``; Ctrl-C after it ends at once.

    Other signals may come twice, from a cluster to all processes of a job and from the sweep that runs it, and mean
    the same: an end in the middle of saving would help nobody.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        self._previous = {number: signal.signal(number, self._remember) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def raise_if_received(self, iteration: int) -> None:
        """Raises Interrupted, saying that ``iteration`` iterations are saved, once a signal has come."""
        if self.received is not None:
            raise Interrupted(self.received, iteration)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or number
        signal.signal(signal.SIGINT, self._previous[signal.SIGINT])
