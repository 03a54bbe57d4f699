"""What all classes of settings share.

A setting is written once: in the dataclass that the library works with, which is also what Hydra checks the command
line against (segnext/app composes a verb's settings of them) and where ``--help`` finds its explanation (``Attributes``
in the docstring). Making an object of one checks it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any

from segnext.errors import require

__all__ = ["MISSING", "Device", "Settings", "literal", "quoted", "require"]

MISSING: Any = "???"
"""A value that has to be given, as OmegaConf writes it."""


class Device(str, Enum):
    """Where Jittor computes; ``auto``: on a GPU where one works."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


@dataclass
class Settings:
    """Base of all settings."""

    def __post_init__(self) -> None:
        for item in fields(self):  # OmegaConf has lists alone
            if isinstance(item.default, tuple) and isinstance(value := getattr(self, item.name), list):
                setattr(self, item.name, tuple(value))


def literal(value: Any) -> str:
    """``value`` as Hydra's command line reads it back, whatever characters it has."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}: {literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ",".join(map(literal, value)) + "]"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    text = str(value.value if isinstance(value, Enum) else value)
    if re.fullmatch(r"[A-Za-z/][\w./-]*", text, re.ASCII) and text.lower() not in (
        "null",
        "true",
        "false",
        "nan",
        "inf",
    ):
        return text
    return quoted(text)


def quoted(text: str) -> str:
    """In quotes for Hydra, in which a backslash is special only before a quote, and ``${`` begins an interpolation."""
    text = re.sub(r'(\\*)("|$)', lambda match: 2 * match[1] + (r"\"" if match[2] else ""), text)
    return '"' + text.replace("${", r"\${") + '"'
