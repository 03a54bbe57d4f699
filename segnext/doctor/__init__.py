"""What a check found: one line for the user, with the cure where something is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

__all__ = ["Finding", "State", "guarded", "ok", "problem", "warning"]


class State(Enum):
    """``warning``: work is possible, but slower or otherwise than expected; ``problem``: it is not."""

    ok = "ok"
    warning = "warning"
    problem = "problem"


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report.

    Attributes:
        topic: what was looked at, a word or two.
        state: whether it is as it should be.
        text: what was found.
        cure: what to do about it; empty where nothing is to be done or ``text`` says it.
    """

    topic: str
    state: State
    text: str
    cure: str = ""


def ok(topic: str, text: str) -> Finding:
    return Finding(topic, State.ok, text)


def warning(topic: str, text: str, cure: str = "") -> Finding:
    return Finding(topic, State.warning, text, cure)


def problem(topic: str, text: str, cure: str = "") -> Finding:
    return Finding(topic, State.problem, text, cure)


def guarded(topic: str, check: Callable[[], Finding]) -> Finding:
    """What ``check`` finds; a check that fails itself is a warning and never an exception."""
    try:
        return check()
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        return warning(topic, f"could not be looked at: {type(error).__name__}: {first}")
