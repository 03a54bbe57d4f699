"""The learning rate of every iteration, and which iterations log, evaluate and save."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Intervals", "LearningRate"]


@dataclass(frozen=True)
class LearningRate:
    """The rate at a 0-based iteration, set before that iteration's step (mmcv's poly policy with linear warm-up).

    base · (1 − i/iterations)^power, and during the first ``warmup_iterations`` times a factor that rises linearly from
    ``warmup_ratio`` to 1. The warm-up multiplies the already decaying value, so there is no jump where it ends.
    """

    base: float
    iterations: int
    warmup_iterations: int = 1500
    warmup_ratio: float = 1e-6
    power: float = 1.0

    def __call__(self, iteration: int) -> float:
        rate: float = self.base * (1 - iteration / self.iterations) ** self.power
        if iteration < self.warmup_iterations:
            rate *= 1 - (1 - iteration / self.warmup_iterations) * (1 - self.warmup_ratio)
        return rate


@dataclass(frozen=True)
class Intervals:
    """Every how many iterations something happens; the last iteration evaluates and saves in any case."""

    log: int
    evaluation: int
    checkpoint: int
    last: int  # number of iterations of the whole run

    def due(self, interval: int, done: int) -> bool:
        """Whether something with ``interval`` happens after ``done`` iterations."""
        return done % interval == 0 or done == self.last
