"""Timing that survives a busy machine: medians of many rounds, contestants in turn."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["Timing", "forget_peak", "peak_bytes", "take_turns"]


@dataclass(frozen=True)
class Timing:
    """Seconds of every round after the warm-up, for ``images`` images each."""

    seconds: tuple[float, ...]
    images: int

    @property
    def median(self) -> float:
        return float(np.median(self.seconds))

    @property
    def spread(self) -> float:
        """Distance of the quartiles over the median: above some 0.1, the machine had other work."""
        low, high = np.percentile(self.seconds, (25, 75))
        return float((high - low) / self.median)

    @property
    def images_per_second(self) -> float:
        return self.images / self.median

    def ratio(self, other: Timing) -> float:
        """How many times as fast as ``other`` this is: the median of the ratios of rounds that ran side by side."""
        pairs = zip(self.seconds, other.seconds, strict=True)
        return float(np.median([theirs / ours for ours, theirs in pairs]))


def take_turns(
    contestants: Mapping[str, Callable[[], float]],
    *,
    images: int,
    warmup: int,
    repeats: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Timing]:
    """Runs every contestant once a round: A B A B …, so that what else the machine does meets all of them alike.

    Args:
        contestants: each does its work to the end, synchronised, and returns the seconds that it took.
        images: worked on in one call.
        warmup: rounds that do not count (compilation, caches), at least one.
        repeats: rounds that do.
        progress: called with the number of rounds done and their total.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(warmup + repeats):
        for name, run in contestants.items():
            elapsed = run()
            if number >= warmup:
                seconds[name].append(elapsed)
        progress(number + 1, warmup + repeats)
    return {name: Timing(tuple(values), images) for name, values in seconds.items()}


def forget_peak() -> None:
    """Begins a new measurement; where the system cannot (not Linux), the peak stays that of the whole process."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_bytes() -> int:
    """The largest resident set since ``forget_peak``: weights, activations, and the libraries themselves."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) * 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
