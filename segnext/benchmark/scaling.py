"""What several ranks gain: all of them working, one working alone, and all working without talking to each other."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from segnext.benchmark.timing import Timing
from segnext.distributed.communicator import Communicator

__all__ = ["InStep", "Scaling", "contestants", "scaling"]


@dataclass(frozen=True)
class Scaling:
    """Of ``ranks`` ranks, each with as many images as the one that works alone.

    Attributes:
        efficiency: images per second of all, over ``ranks`` times those of the one.
        communication: share of a training step that averaging takes, waiting for the slowest rank included; None where
            nothing is averaged.
    """

    ranks: int
    efficiency: float
    communication: float | None

    def __str__(self) -> str:
        text = f"{self.ranks} ranks: {self.ranks * self.efficiency:.2f} × the images of one"
        text += f" (efficiency {100 * self.efficiency:.0f} %)"
        if self.communication is not None:
            text += f"; communication and waiting take {100 * self.communication:.0f} % of a step"
        return text


class InStep:
    """Lets ranks begin together and counts until the slowest has finished.

    Args:
        run: does a rank's work and returns the seconds that it took.
        working: whether this rank works; else it waits.
        averaging: whether gradients and statistics are averaged over the ranks.
    """

    def __init__(self, run: Callable[[], float], communicator: Communicator, *, working: bool, averaging: bool) -> None:
        self._run, self._communicator = run, communicator
        self._working, self._averaging = working, averaging

    def __call__(self) -> float:
        from segnext.distributed.all_reduce import without_communication  # brings Jittor up

        self._communicator.barrier()
        seconds = 0.0
        if self._working:
            with contextlib.nullcontext() if self._averaging else without_communication():
                seconds = self._run()
        self._communicator.hang_timer.reset("measuring")
        return self._communicator.all_reduce_max(int(seconds * 1e9)) / 1e9


def contestants(what: str, run: Callable[[], float], communicator: Communicator) -> dict[str, InStep]:
    """What to measure of ``what``, by the name of its row: all ranks first, one alone second."""
    measured = {
        f"{communicator.size} ranks": InStep(run, communicator, working=True, averaging=True),
        "1 alone": InStep(run, communicator, working=communicator.is_main, averaging=False),
    }
    if what == "train":
        measured[f"{communicator.size} not averaging"] = InStep(run, communicator, working=True, averaging=False)
    return measured


def scaling(timings: dict[str, Timing], ranks: int) -> Scaling:
    """From the rounds of ``contestants``, which ran side by side."""
    together, one, *apart = timings.values()
    # ratio: how many times as fast as the other; here, the share of the step that is left without averaging
    communication = max(0.0, 1 - together.ratio(apart[0])) if apart else None
    return Scaling(ranks, together.ratio(one), communication)
