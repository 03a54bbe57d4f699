"""Which settings a command has read, seen from outside: not to check, compare or record them, but to work with them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from types import FrameType
from typing import Any, get_type_hints

import pytest

from segnext.app.keys import read_keys

__all__ = ["recorded_reads", "unread"]

_NOT_WORK = ("__post_init__", "check", "__eq__", "__repr__", "_check_engine", "modernised", "job_settings")


def _classes(schema: type[Any], prefix: str = "") -> Iterator[tuple[str, type[Any]]]:
    """The dataclasses of a verb's settings, by the prefix of their keys."""
    yield prefix, schema
    hints = get_type_hints(schema)
    for item in fields(schema):
        if is_dataclass(hints[item.name]):
            yield from _classes(hints[item.name], f"{prefix}{item.name}.")


def _is_work(frame: FrameType | None) -> bool:
    """Whether a read from here is more than a check or a copy."""
    for _ in range(3):
        if frame is None:
            return True
        if frame.f_code.co_name in _NOT_WORK:
            return False
        if frame.f_globals.get("__name__", "").partition(".")[0] in ("omegaconf", "dataclasses", "copy"):
            return False
        frame = frame.f_back
    return True


@contextmanager
def recorded_reads(schema: type[Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """The keys of ``schema`` that the work in the block reads."""
    found: set[str] = set()
    with monkeypatch.context() as patches:
        for prefix, owner in _classes(schema):
            names = {item.name for item in fields(owner)}

            def read(
                settings: Any, name: str, *, prefix: str = prefix, names: set[str] = names, owner: type[Any] = owner
            ) -> Any:
                all_of_them = name == "__dict__"  # vars()
                if (all_of_them or name in names) and type(settings) is owner and _is_work(sys._getframe(1)):
                    found.update({prefix + own for own in names} if all_of_them else {prefix + name})
                return object.__getattribute__(settings, name)

            patches.setattr(owner, "__getattribute__", read, raising=False)
        yield found


def unread(schema: type[Any], found: set[str]) -> list[str]:
    """The settings that a verb says it reads, and that were not read."""
    return [key.name for key in read_keys(schema) if not key.is_group and key.name not in found]
