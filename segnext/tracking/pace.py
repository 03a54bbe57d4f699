"""How long things take: the pace of steps and evaluations, what is being compiled, and times as people read them."""

from __future__ import annotations

import math
import statistics
from collections import deque

import psutil

__all__ = ["Pace", "compiling", "duration"]

_WINDOW = 50  # steps over which the pace is measured
_COMPILERS = frozenset({"g++", "c++", "clang++", "cc1plus", "as", "ld", "nvcc", "cicc", "ptxas", "cudafe++"})


def duration(seconds: float) -> str:
    """'0:09', '1:02:03', '3 d 04:05', or '?' for what is not known."""
    if not math.isfinite(seconds) or seconds < 0:
        return "?"
    minutes, s = divmod(int(seconds), 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    if days:
        return f"{days} d {h:02}:{m:02}"
    return f"{h}:{m:02}:{s:02}" if h else f"{m}:{s:02}"


def compiling() -> str:
    """ "compiling operators" while a compiler works for this process, else nothing."""
    try:
        names = {child.name() for child in psutil.Process().children(recursive=True)}
    except psutil.Error:  # a compiler has ended meanwhile
        return ""
    return "compiling operators" if names & _COMPILERS else ""


class Pace:
    """What a step and an evaluation take, in seconds; nan before it is known."""

    def __init__(self) -> None:
        self._steps: deque[float] = deque(maxlen=_WINDOW)
        self._last: tuple[int, float] | None = None
        self.evaluation = math.nan

    @property
    def step(self) -> float:
        """The median, so that a step which compiles or waits does not count."""
        return statistics.median(self._steps) if self._steps else math.nan

    def take(self, iteration: int, time: float) -> None:
        """A step has ended."""
        if self._last is not None and iteration > self._last[0]:
            self._steps.append(max(0.0, time - self._last[1]) / (iteration - self._last[0]))
        if self._last is None or iteration > self._last[0]:
            self._last = iteration, time

    def restart(self, iteration: int, time: float) -> None:
        """Something else than steps has taken the time until now."""
        self._last = iteration, time

    def forget(self) -> None:
        self._steps.clear()
        self._last = None
