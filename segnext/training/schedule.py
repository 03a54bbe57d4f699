"""What happens when: the learning rate of an iteration, and the iterations that log, evaluate and save."""

from __future__ import annotations

from dataclasses import dataclass

from segnext.settings import MISSING, Settings, require

__all__ = ["ScheduleSettings"]


@dataclass
class ScheduleSettings(Settings):
    """A training from its first iteration to its last; the defaults are the official recipe's.

    Attributes:
        iterations: optimizer steps of the whole training
        batch_size: images per optimizer step over all devices
        micro_batch: images per forward and backward pass; null: the whole batch at once
        lr: base learning rate of AdamW
        head_lr_factor: the decode head's rate as a multiple of lr
        weight_decay: decoupled weight decay of AdamW; norms have none
        betas: of AdamW's moments
        warmup_iterations: iterations over which the rate rises linearly
        warmup_ratio: share of the rate at which it begins to rise
        power: exponent of the decay from lr to 0; 1: linear
        eval_interval: iterations between evaluations; the last one evaluates in any case
        checkpoint_interval: iterations between checkpoints; the last one saves in any case
        log_interval: iterations between records of loss, rate and speed
    """

    iterations: int = MISSING
    batch_size: int = MISSING
    micro_batch: int | None = None
    lr: float = 6e-5
    head_lr_factor: float = 10.0
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    warmup_iterations: int = 1500
    warmup_ratio: float = 1e-6
    power: float = 1.0
    eval_interval: int = 8000
    checkpoint_interval: int = 8000
    log_interval: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("iterations", "batch_size", "eval_interval", "checkpoint_interval", "log_interval"):
            value = getattr(self, key)
            require(value == MISSING or value >= 1, f"schedule.{key}", value, "at least 1")
        for key in ("head_lr_factor", "weight_decay", "warmup_iterations", "power"):
            value = getattr(self, key)
            require(value >= 0, f"schedule.{key}", value, "at least 0")
        require(self.lr > 0, "schedule.lr", self.lr, "above 0")
        fits = len(self.betas) == 2 and min(self.betas) >= 0 and max(self.betas) < 1
        require(fits, "schedule.betas", list(self.betas), "two numbers from 0 to below 1")
        require(0 <= self.warmup_ratio <= 1, "schedule.warmup_ratio", self.warmup_ratio, "a number from 0 to 1")
        if self.micro_batch is not None and self.batch_size != MISSING:
            fits = self.micro_batch >= 1 and self.batch_size % self.micro_batch == 0
            require(fits, "schedule.micro_batch", self.micro_batch, f"a divisor of the batch size {self.batch_size}")

    def learning_rate(self, iteration: int) -> float:
        """The base rate of a 0-based iteration, set before that iteration's step (mmcv's poly policy with warm-up).

        lr · (1 − i/iterations)^power, and during the first ``warmup_iterations`` times a factor that rises linearly
        from ``warmup_ratio`` to 1. The warm-up multiplies the already decaying value, so there is no jump at its end.
        """
        rate: float = self.lr * (1 - iteration / self.iterations) ** self.power
        if iteration < self.warmup_iterations:
            rate *= 1 - (1 - iteration / self.warmup_iterations) * (1 - self.warmup_ratio)
        return rate

    def rate_advice(self, recipe: int) -> str | None:
        """What to set where the batch is not the ``recipe``'s and the base rate is; None: nothing."""
        if self.batch_size == recipe or self.lr != ScheduleSettings.lr:
            return None
        same = f"schedule.batch_size={recipe} schedule.micro_batch={self.batch_size}"
        keep = f", or {same} for the recipe's step in the same memory" if recipe % self.batch_size == 0 else ""
        return (
            f"schedule.batch_size={self.batch_size}, but schedule.lr={self.lr:g} belongs to batches of {recipe}: set "
            f"schedule.lr={self.lr * self.batch_size / recipe:.3g}, in proportion{keep}"
        )

    def is_due(self, interval: int, done: int) -> bool:
        """Whether what happens every ``interval`` iterations happens after ``done``; after the last one all does."""
        return done % interval == 0 or done == self.iterations
