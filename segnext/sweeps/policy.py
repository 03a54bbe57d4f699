"""What the settings ``sweep.slots`` and ``sweep.on_failure`` may say and mean."""

from __future__ import annotations

from dataclasses import dataclass

from segnext.errors import ConfigError

__all__ = ["OnFailure", "parse_slots"]


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
