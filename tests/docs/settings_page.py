"""Writes docs/settings.md out of the schema: `python -m tests.docs.settings_page`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from segnext.app.keys import Key, read_keys
from segnext.app.schema import VERBS
from segnext.settings import literal

PAGE = Path(__file__).parents[2] / "docs/settings.md"
INTRODUCTION = """# Settings

Every setting of every verb, with its default and what it means: what `segnext VERB --help` says, on one page. It is
generated from the settings' classes (`python -m tests.docs.settings_page`), and a test sees to it that it is current.

A setting is given as `KEY=VALUE`. Whole groups are chosen by name, `dataset=ade`, `schedule=80k`, and then stand for
the values in `conf/GROUP/NAME.yaml`, which win over the defaults below; `segnext VERB --cfg job` shows the result.
`(needed)` has no default. Values with brackets, braces or spaces need quotes in a shell: `'dataset.crop=[512,512]'`.
"""


def settings_page() -> str:
    """The page as Markdown."""
    return "\n".join([INTRODUCTION, *_verbs(), *_groups()])


def _verbs() -> Iterator[str]:
    """What belongs to one verb alone, with links to the groups that it reads."""
    for verb, schema in VERBS.items():
        keys, defaults = read_keys(schema), OmegaConf.structured(schema)
        groups = [key.name for key in keys if key.is_group and "." not in key.name]
        yield f"## {verb}\n"
        if groups:
            yield f"Groups: {', '.join(f'[{group}](#{group})' for group in groups)}.\n"
        yield from _table(("setting", "default", "meaning"), _rows(keys, defaults, inside=""))


def _groups() -> Iterator[str]:
    """The groups with the verbs that read each setting; ``all`` is all verbs that have the group."""
    readers: dict[str, list[str]] = {}
    rows: dict[str, tuple[str, str, str]] = {}
    for verb, schema in VERBS.items():
        keys, defaults = read_keys(schema), OmegaConf.structured(schema)
        for group in [key.name for key in keys if key.is_group and "." not in key.name]:
            readers.setdefault(group, []).append(verb)
            for row in _rows(keys, defaults, inside=f"{group}."):
                rows.setdefault(row[0], row)
                readers.setdefault(row[0], []).append(verb)
    for group in [name for name in readers if name not in rows]:
        yield f"## {group}\n"
        found = [row for name, row in rows.items() if name.startswith(f"`{group}.")]
        by = (", ".join(readers[row[0]]) if readers[row[0]] != readers[group] else "all" for row in found)
        columns = ("setting", "default", "meaning", f"read by ({', '.join(readers[group])})")
        yield from _table(columns, ((*row, verbs) for row, verbs in zip(found, by, strict=True)))


def _rows(keys: Iterable[Key], defaults: Any, *, inside: str) -> Iterator[tuple[str, str, str]]:
    for key in keys:
        if key.is_group or not key.name.startswith(inside) or (not inside and "." in key.name):
            continue
        node: Any = defaults
        *parents, leaf = key.name.split(".")
        for parent in parents:
            node = node[parent]
        missing = OmegaConf.is_missing(node, leaf)
        value = OmegaConf.to_container(node, enum_to_str=True)[leaf]  # type: ignore[call-overload,index]
        yield f"`{key.name}`", "(needed)" if missing else f"`{literal(value)}`", key.text.replace("|", "\\|")


def _table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield "|" + "---|" * len(columns)
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""


if __name__ == "__main__":
    PAGE.write_text(settings_page(), encoding="utf-8")
