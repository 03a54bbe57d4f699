"""The keys of a verb's settings, in the order in which help shows them, each with its explanation."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, get_type_hints

__all__ = ["Key", "all_but", "key_names", "keys", "leaf_keys", "read_keys"]


@dataclass(frozen=True)
class Key:
    """One setting, or a group of them.

    Attributes:
        name: as the command line has it, dots included
        hint: its type
        text: what it means, in one line
    """

    name: str
    hint: Any
    text: str

    @property
    def is_group(self) -> bool:
        return is_dataclass(self.hint)


def _explanations(schema: type[Any]) -> dict[str, str]:
    """What ``Attributes:`` of the docstrings of a class and its bases say, by field."""
    found: dict[str, str] = {}
    for base in reversed(schema.__mro__):
        _, _, attributes = inspect.cleandoc(base.__dict__.get("__doc__") or "").partition("Attributes:\n")
        found |= {
            match[1]: " ".join(match[2].split())
            for match in re.finditer(r"^    (\w+): (.*(?:\n     .*)*)", attributes, re.MULTILINE)
        }
    return found


def keys(schema: type[Any], prefix: str = "") -> Iterator[Key]:
    """All keys of a dataclass and of those inside it, a group before what is in it."""
    hints, texts = get_type_hints(schema), _explanations(schema)
    for item in fields(schema):
        key = Key(prefix + item.name, hints[item.name], texts.get(item.name, ""))
        yield key
        if key.is_group:
            yield from keys(key.hint, f"{key.name}.")


def key_names(schema: type[Any]) -> list[str]:
    """The names of all keys, groups included."""
    return [key.name for key in keys(schema)]


def leaf_keys(schema: type[Any], prefix: str = "") -> list[str]:
    """The names of all single settings."""
    return [key.name for key in keys(schema, prefix) if not key.is_group]


def read_keys(schema: type[Any]) -> list[Key]:
    """What has an effect on a verb: its settings but for those in ``UNREAD``, and the groups that hold some."""
    unread = set(schema.UNREAD)
    single = [key.name for key in keys(schema) if not key.is_group and key.name not in unread]
    return [key for key in keys(schema) if any(f"{name}.".startswith(f"{key.name}.") for name in single)]


def all_but(group: str, settings: type[Any], *read: str) -> tuple[str, ...]:
    """All settings of ``group`` except those named, or inside a group named."""
    spared = tuple(f"{group}.{key}." for key in read)
    return tuple(key for key in leaf_keys(settings, f"{group}.") if not f"{key}.".startswith(spared))
