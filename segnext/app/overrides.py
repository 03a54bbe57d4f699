"""Overrides as Hydra's command line has them: brought up to date, checked, and quoted so that they are read back."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from types import NoneType
from typing import Any, get_args

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from segnext.app.keys import keys
from segnext.settings import quoted

__all__ = ["RENAMED", "modernised", "quoted_override", "unreadable", "whole_numbers"]

# Names that settings had before; they work for one release.
RENAMED = {
    "evaluation.draws": "evaluation.repeats",
    "evaluation.window_batch": "dataset.test.window_batch",
    "model.recompute": "model.gradient_checkpointing",
    "model.head": "model.reset_classifier",
    "dataset.test.mode": "dataset.test.windows",
    "dataset.profile_size": "dataset.flops_size",
    "mode": "dataset.test.tta",
    "test_mode": "dataset.test.windows",
    "scale": "dataset.test.scale",
    "crop": "dataset.crop",
    "draws": "bootstrap_samples",
    "spelling": "key_format",
}
_VALUES = {
    "model.head": {"keep": "false", "new": "true"},
    "mode": {"ss": "false", "ms": "true"},
}
_SHORT = {"tta": "dataset.test.tta", "output": "output.path"}  # not old, but handy
_NAMES = {new: short for short, new in _SHORT.items()}


def modernised(arguments: Sequence[str], known: Iterable[str]) -> tuple[list[str], list[str]]:
    """Command-line arguments with today's names, and a line for each name that has changed.

    Args:
        known: the keys of the verb, which alone are renamed to.
    """
    keys, result, notes = set(known), list[str](), list[str]()
    for argument in arguments:
        match = re.fullmatch(r"(\+{0,2}|~)([\w.]+)=(.*)", argument, re.DOTALL)
        name = match[2] if match else ""
        new = _SHORT.get(name) or RENAMED.get(name)
        if match is None or new is None or new not in keys or (name in keys and name not in _SHORT):
            result.append(argument)
            continue
        value = match[3]
        if (values := _VALUES.get(name)) is not None:
            value = ",".join(values.get(part.strip(), part) for part in value.split(","))
        result.append(f"{new}={value}")
        if name not in _SHORT:
            shown = _NAMES.get(new, new)
            notes.append(f"{name}= is called {shown}= now: {shown}={value} (the old name works until the next release)")
    return result, notes


def quoted_override(text: str) -> str:
    """The override ``KEY=VALUE``, its value as text whatever it holds, to be pasted into a shell."""
    key, _, value = text.partition("=")
    return shlex.quote(f"{key}={quoted(value)}")


def unreadable(overrides: Sequence[str]) -> str | None:
    """The first override that Hydra can't parse; None where it can parse all."""
    parser = OverridesParser.create()
    for text in overrides:
        try:
            parser.parse_override(text)
        except HydraException:
            return text
    return None


def whole_numbers(arguments: Sequence[str], schema: type[Any]) -> list[str]:
    """Command-line arguments with ``2e4`` and ``20000.0`` as ``20000`` where ``schema`` wants whole numbers."""
    whole = {key.name for key in keys(schema) if _holds_whole_numbers(key.hint)}

    def rewritten(argument: str) -> str:
        key, equals, value = argument.partition("=")
        return key + equals + re.sub(_NUMBER, _whole, value) if key.lstrip("+") in whole else argument

    return [rewritten(argument) for argument in arguments]


_NUMBER = r"(?<![\w.])\d+(?:\.\d*)?(?:[eE][+-]?\d+)?(?![\w.])"


def _whole(match: re.Match[str]) -> str:
    return str(int(float(match[0]))) if float(match[0]).is_integer() and not match[0].isdigit() else match[0]


def _holds_whole_numbers(hint: Any) -> bool:
    inside = [part for part in get_args(hint) if part not in (NoneType, Ellipsis)]
    return hint is int or (bool(inside) and all(map(_holds_whole_numbers, inside)))
