"""Class tables: the names and colours that go with the label values 0 … K-1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segnext.data.class_tables import ADE_ROWS, CAMVID_ROWS, CITYSCAPES_ROWS, SHAPES_ROWS
from segnext.data.palette import distinct_palette
from segnext.errors import DataError

__all__ = [
    "ADE",
    "CAMVID",
    "CITYSCAPES",
    "CITYSCAPES_LABEL_IDS",
    "IGNORE_LABEL",
    "SHAPES",
    "ClassTable",
    "load_class_table",
]

IGNORE_LABEL = 255
"""The label value of pixels that count neither in the loss nor in any metric."""


_LONGEST_TABLE = 100_000  # characters
_DEEPEST_TABLE = 8  # lists and mappings inside each other


@dataclass(frozen=True)
class ClassTable:
    """The classes of a dataset in label order.

    Attributes:
        name: what the table is called, for messages and reports.
        names: K class names; a label value k in 0 … K-1 means ``names[k]``, 255 means "ignore".
        palette: (K, 3) uint8 RGB. Colours may repeat (ADE20K has one pair), so a colour does not give a class.
        own_palette: whether the colours are those of the user's own label files, and not for pictures alone.
    """

    name: str
    names: tuple[str, ...]
    palette: npt.NDArray[np.uint8] = field(compare=False, repr=False)
    own_palette: bool = field(default=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) <= IGNORE_LABEL:
            raise DataError(f"class table {self.name!r} has {len(self.names)} classes: uint8 labels allow 1 to 255")
        if self.palette.shape != (len(self.names), 3) or self.palette.dtype != np.uint8:
            raise DataError(f"class table {self.name!r}: the palette must be ({len(self.names)}, 3) uint8 RGB")

    def __len__(self) -> int:
        return len(self.names)


def _parse(name: str, rows: str) -> ClassTable:
    colours, names = zip(*(row.split(maxsplit=1) for row in rows.splitlines()), strict=True)
    return ClassTable(name, names, np.array([list(bytes.fromhex(colour)) for colour in colours], np.uint8))


def _without_label_id(row: str) -> str:
    colour, _, name = row.split(maxsplit=2)
    return f"{colour} {name}"


ADE = _parse("ade", ADE_ROWS)
CITYSCAPES = _parse("cityscapes", "\n".join(map(_without_label_id, CITYSCAPES_ROWS.splitlines())))
CAMVID = _parse("camvid", CAMVID_ROWS)
SHAPES = _parse("shapes", SHAPES_ROWS)

CITYSCAPES_LABEL_IDS = tuple(int(row.split(maxsplit=2)[1]) for row in CITYSCAPES_ROWS.splitlines())
"""The benchmark's labelId of each trainId 0 … 18: what the download and the evaluation server use."""


def load_class_table(path: str | Path) -> ClassTable:
    """Reads the classes of the user's own data from a yaml file.

    The file holds ``names`` (a list, in label order) and, if wanted, ``palette`` (as many colours, each
    ``[r, g, b]`` or ``"#rrggbb"``) and ``name``. Without a palette, colours far apart from each other are chosen.

    Raises:
        DataError: the file is missing, no yaml, or one of its entries is unusable; the message says which.
    """
    import yaml  # here, since loader workers import this module and never read yaml

    path = Path(path)
    example = "expected for example `names: [background, leaf, stem]`"
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for without end
            raise DataError(f"class table {path} is no regular file; {example}")
        text = path.read_text(encoding="utf-8-sig")
        _refuse_what_unfolds(text, path)
        content = yaml.safe_load(text)
    except FileNotFoundError:
        raise DataError(f"class table {path} does not exist; {example}") from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise DataError(f"class table {path} cannot be read: {error}; {example}") from error
    if isinstance(content, list):
        content = {"names": content}
    if not isinstance(content, dict) or not isinstance(content.get("names"), list):
        raise DataError(f"class table {path} has no list `names`; {example}")
    if unknown := set(content) - {"name", "names", "palette"}:
        raise DataError(
            f"class table {path}: unknown key {sorted(map(str, unknown))[0]!r}; known are name, names, palette"
        )
    names = content["names"]
    for position, entry in enumerate(names):
        if not isinstance(entry, str) or not entry.strip():
            raise DataError(f"class table {path}: class {position} is {entry!r}, not a text; put quotes around it")
    if len(set(names)) < len(names):
        twice = next(entry for entry in names if names.count(entry) > 1)
        raise DataError(f"class table {path}: the class {twice!r} is listed twice; each name may occur once")
    palette = content.get("palette")
    colours = distinct_palette(len(names)) if palette is None else _palette(palette, len(names), path)
    return ClassTable(str(content.get("name", path.stem)), tuple(names), colours, own_palette=palette is not None)


def _refuse_what_unfolds(text: str, path: Path) -> None:
    """Refuses what a yaml reader would need endless time or memory for.

    An alias repeats what may repeat others, so that a few lines fill any memory; deep nesting takes quadratic time.
    """
    import yaml

    flow = (yaml.FlowSequenceStartToken, yaml.FlowMappingStartToken)
    block = (yaml.BlockSequenceStartToken, yaml.BlockMappingStartToken)
    ends = (yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken, yaml.BlockEndToken)
    depth = 0
    for token in yaml.scan(text[: _LONGEST_TABLE + 1]):
        depth += isinstance(token, (*flow, *block)) - isinstance(token, ends)
        if isinstance(token, yaml.AliasToken) or depth > _DEEPEST_TABLE or len(text) > _LONGEST_TABLE:
            raise DataError(
                f"class table {path} holds yaml aliases (*name), is nested too deeply or too long: write it as a plain "
                "list of names"
            )


def _palette(entries: Any, count: int, path: Path) -> npt.NDArray[np.uint8]:
    if not isinstance(entries, list) or len(entries) != count:
        found = len(entries) if isinstance(entries, list) else repr(entries)
        raise DataError(f"class table {path}: `palette` must list {count} colours, one per name, not {found}")
    return np.array([_colour(entry, path) for entry in entries], np.uint8)


def _colour(entry: Any, path: Path) -> Sequence[int]:
    if isinstance(entry, str) and len(entry) == 7 and entry.startswith("#"):
        try:
            return list(bytes.fromhex(entry[1:]))
        except ValueError:
            pass
    elif isinstance(entry, list) and len(entry) == 3 and all(type(x) is int and 0 <= x <= 255 for x in entry):
        return entry
    raise DataError(f'class table {path}: {entry!r} is no colour; write [r, g, b] with 0 to 255, or "#rrggbb"')
