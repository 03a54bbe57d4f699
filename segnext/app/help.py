"""What ``--help`` says of a verb beside the text in conf/: the choices it has, and each setting that it reads.

conf/VERB.yaml refers to both as ``${help_choices:}`` and ``${help_settings:}``.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from segnext.app.keys import Key, read_keys
from segnext.settings import literal

__all__ = ["register_help"]

_COLUMN = 40


def register_help(schema: type[Any]) -> None:
    """Lets conf/ refer to the choices and settings of the verb with this schema."""
    keys = read_keys(schema)

    def choices(_root_: DictConfig) -> str:
        return _escaped("\n".join(f"{group}: {', '.join(options)}" for group, options in _choices(keys, _root_)))

    def settings(_root_: DictConfig) -> str:
        alone = [key for key in keys if "." not in key.name and not key.is_group]
        inside = [key for key in keys if key not in alone]
        return _escaped("\n".join(line for key in (*alone, *inside) for line in _lines(key, _root_)))

    OmegaConf.register_new_resolver("help_choices", choices, replace=True)
    OmegaConf.register_new_resolver("help_settings", settings, replace=True)


def _escaped(text: str) -> str:
    return text.replace("$", "$$")  # Hydra puts the text into a template


def _choices(keys: list[Key], root: DictConfig) -> Iterator[tuple[str, list[str]]]:
    """The groups of conf/, or of the user's own folders, that the verb reads, with their options."""
    groups = {key.name for key in keys if key.is_group and "." not in key.name}
    groups |= {group for group in root.hydra.runtime.choices if "/" not in group}
    found: dict[str, set[str]] = {}
    for source in root.hydra.runtime.config_sources:
        if source.schema == "pkg" and source.provider != "hydra":
            place: Any = files(source.path)
        elif source.schema == "file":
            place = Path(source.path)
        else:
            continue
        for group in groups:
            if (folder := place / group).is_dir():
                options = (file.name for file in folder.iterdir() if file.name.endswith(".yaml"))
                found.setdefault(group, set()).update(name.removesuffix(".yaml") for name in options)
    for group in sorted(found):
        yield group, sorted(found[group])


def _lines(key: Key, root: DictConfig) -> Iterator[str]:
    """A heading for a group at the top; for a single setting what it is now, and what it means."""
    if key.is_group:
        if "." not in key.name:
            yield from ("", f"{key.name}: {key.text}")
        return
    try:
        value = "?" if OmegaConf.is_missing(root, key.name) else literal(OmegaConf.select(root, key.name))
    except OmegaConfBaseException:
        value = "?"
    setting = f"  {key.name}={value}"
    if len(setting) >= _COLUMN:
        yield setting
        setting = ""
    yield from _wrapped(f"{setting:<{_COLUMN}}{key.text}")


def _wrapped(line: str) -> list[str]:
    """To the width of a terminal; elsewhere a setting stays in one line, which can be searched."""
    if not sys.stdout.isatty():
        return [line]
    width = max(shutil.get_terminal_size().columns, _COLUMN + 20)
    return textwrap.wrap(line, width, subsequent_indent=" " * _COLUMN, drop_whitespace=True, break_on_hyphens=False)
