"""Runs a command in this process, as a user would type it."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

__all__ = ["run"]


def run(main: Callable[[], None], monkeypatch: pytest.MonkeyPatch, *overrides: str) -> int:
    """Calls a runner with command-line arguments and returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["runner", *overrides])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)
