"""Overrides as Hydra's command line has them: read, completed, and written so that they are read back as they are."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any, get_args

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from segnext.app.keys import keys
from segnext.settings import literal, quoted

__all__ = ["fill_in", "given_overrides", "quoted_override", "unreadable", "whole_numbers"]

_GROUPS = ("model", "dataset")  # whose choice a run or a checkpoint knows


def given_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """The settings and choices on the command line by name."""
    return {
        override.key_or_group: override.value()
        for override in OverridesParser.create().parse_overrides(list(overrides))
        if not override.is_delete() and not override.is_sweep_override()
    }


def fill_in(overrides: Sequence[str], given: Mapping[str, Any], known: Mapping[str, Any]) -> list[str]:
    """The overrides with those ``known`` before them that they leave open; another choice of a group leaves none."""
    chosen = [key for key in given if "." not in key and given[key] != known.get(key)]
    known = {key: value for key, value in known.items() if key.split(".")[0] not in chosen}
    inside = [key for key in given if key not in _GROUPS]  # a group that is given may be what is known
    own = {
        key: value
        for key, value in known.items()
        if key not in given and not any(key.startswith(f"{outer}.") for outer in inside)
    }
    return [*(f"{key}={literal(value)}" for key, value in own.items()), *overrides]


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
