"""Overrides as Hydra's command line has them: read, completed, and written so that they are read back as they are."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

__all__ = ["fill_in", "given_overrides", "literal", "quoted_override", "unreadable"]

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


def literal(value: Any) -> str:
    """``value`` as Hydra's command line reads it back."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}: {literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(literal, value)) + "]"
    if isinstance(value, int | float):
        return repr(value)
    return _quoted(str(getattr(value, "value", value)))


def quoted_override(text: str) -> str:
    """The override ``KEY=VALUE``, its value as text whatever it holds, to be pasted into a shell."""
    key, _, value = text.partition("=")
    return shlex.quote(f"{key}={_quoted(value)}")


def unreadable(overrides: Sequence[str]) -> str | None:
    """The first override that Hydra can't parse; None where it can parse all."""
    parser = OverridesParser.create()
    for text in overrides:
        try:
            parser.parse_override(text)
        except HydraException:
            return text
    return None


def _quoted(text: str) -> str:
    """In quotes for Hydra, in which a backslash is special only before a quote, and ``${`` begins an interpolation."""
    text = re.sub(r'(\\*)("|$)', lambda match: 2 * match[1] + (r"\"" if match[2] else ""), text)
    return '"' + text.replace("${", r"\${") + '"'
