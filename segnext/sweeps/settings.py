"""The settings ``sweep.*``: how the jobs of a sweep are run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from segnext.errors import ConfigError, require

__all__ = ["OnFailure", "SweepSettings", "parse_slots"]


@dataclass
class SweepSettings:
    """How the jobs of `-m` are run.

    Attributes:
        name: folder below <output_dir>/sweeps; null: follows from the command's choices
        slots: jobs at a time; auto: one per GPU, one without a GPU
        on_failure: continue, stop or retry:N
        dry_run: list the jobs and run nothing
        grace: seconds that a stopped job has to save before it is killed
        prune: stop a job below this curve: a run folder, or best (the best finished job so far)
        prune_margin: by this much mIoU, a fraction
    """

    name: str | None = None
    slots: Any = "auto"
    on_failure: str = "continue"
    dry_run: bool = False
    grace: float = 2.5
    prune: str | None = None
    prune_margin: float = 0.05

    def __post_init__(self) -> None:
        parse_slots(self.slots)
        OnFailure.parse(self.on_failure)
        require(self.grace >= 0, "sweep.grace", self.grace, "at least 0")
        require(0 <= self.prune_margin < 1, "sweep.prune_margin", self.prune_margin, "a fraction from 0 to below 1")
        if self.name is not None:
            plain = self.name not in (".", "..") and re.fullmatch(r"[\w.+-]+", self.name, re.ASCII)
            require(bool(plain), "sweep.name", self.name, "letters, digits and . + - _")


@dataclass(frozen=True)
class OnFailure:
    """What a failed job means for the sweep: it is tried again ``retries`` times, and then the sweep stops or not."""

    retries: int = 0
    stop: bool = False

    @classmethod
    def parse(cls, text: str) -> OnFailure:
        """``continue``, ``stop`` or ``retry:N``.

        Raises:
            ConfigError: something else.
        """
        if text in ("continue", "stop"):
            return cls(stop=text == "stop")
        word, _, count = text.partition(":")
        if word == "retry" and count.isdecimal() and int(count) >= 1:
            return cls(retries=int(count))
        raise ConfigError(f"sweep.on_failure={text} is unknown: choose continue, stop or retry:N, for example retry:2")


def parse_slots(value: object) -> int | None:
    """``sweep.slots``: a number, or None for auto.

    Raises:
        ConfigError: neither.
    """
    if value == "auto":
        return None
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    raise ConfigError(f"sweep.slots={value} is neither auto nor a whole number from 1: give the jobs to run at a time")
