"""The learning rate: linear warm-up on top of polynomial decay, as the official recipe (mmcv's poly policy)."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LearningRate"]


@dataclass(frozen=True)
class LearningRate:
    """The rate at a 0-based iteration, set before that iteration's step.

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
