"""What a training measures of itself: loss, speed and memory."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Mapping
from typing import Any

import psutil

from segnext import backend
from segnext.errors import DivergenceError
from segnext.files import parse_json

__all__ = ["LossMeter", "MemoryMeter"]

_GIB = 1 << 30


class LossMeter:
    """Collects losses without waiting for the device, and the speed since it was last read.

    The first step, in which operators are compiled, does not count for the speed.
    """

    def __init__(self, ranks: int = 1) -> None:
        self._ranks = ranks
        self._steps = 0
        self._pending: list[Any] = []
        self._losses: list[float] = []
        self._images = 0
        self.restart_clock()

    def add(self, loss: Any, *, images: int) -> None:
        self._pending.append(loss)
        self._images += images
        self._steps += 1
        if self._steps == 1:
            self.restart_clock()

    def restart_clock(self) -> None:
        """Starts the measurement of speed anew, after something other than training."""
        self._start, self._images = time.perf_counter(), 0

    def check(self, done: int) -> None:
        """Raises DivergenceError if a loss since the last check was not finite or was zero."""
        losses = [float(loss.item()) for loss in self._pending]
        self._pending = []
        self._losses += losses
        for offset, loss in enumerate(losses, start=done - len(losses) + 1):
            if not math.isfinite(loss):
                raise DivergenceError(
                    f"the loss was {loss} at iteration {offset}: lower schedule.lr or lengthen "
                    "schedule.warmup_iterations; the latest checkpoint is from before it"
                )
            if loss == 0:
                raise DivergenceError(
                    f"the loss was exactly 0 at iteration {offset}: no pixel of the batch is labelled or the logits "
                    "have collapsed; `python -m runners.doctor dataset=…` checks the labels"
                )

    def read(self, done: int) -> dict[str, float]:
        """Mean loss and images per second since the last call."""
        self.check(done)
        mean = sum(self._losses) / len(self._losses)
        elapsed = time.perf_counter() - self._start
        speed = {"train/images_per_second": self._ranks * self._images / elapsed} if self._images else {}
        self._losses = []
        self.restart_clock()
        return {"train/loss": mean, **speed}

    def state(self) -> dict[str, Any]:
        """The losses since the last record: a run that goes on from here has the same next mean."""
        return {"losses": list(self._losses)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores ``state()``, whose values may have become text."""
        losses = state.get("losses", [])
        self._losses = [float(loss) for loss in (parse_json(losses) if isinstance(losses, str) else losses)]


class MemoryMeter:
    """How much memory is held, now and at most since the start.

    Of a GPU that is Jittor's arrays with the blocks it keeps for more of them, without the one GiB or so of CUDA and
    its libraries. The blocks are given back at evaluations alone, so that what is held after a step was its peak. On
    the CPU it is the whole process.
    """

    def __init__(self) -> None:
        self._peak = 0.0

    def read(self) -> dict[str, float]:
        """The figures in GiB, under the names of the log."""
        if backend.device_name() == "cuda":
            held = backend.start().get_mem_info().total_cuda_used / _GIB
            self._peak = max(self._peak, held)
        else:
            held = psutil.Process().memory_info().rss / _GIB
            self._peak = max(held, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / _GIB)
        return {"train/device_memory_gib": held, "train/device_memory_peak_gib": self._peak}
