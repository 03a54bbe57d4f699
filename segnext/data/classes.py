"""Class tables: the names and colours that go with the label values 0 … K-1."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import yaml

from segnext.data.settings import DatasetSettings
from segnext.errors import ConfigError, DataError
from segnext.files import read_yaml

__all__ = [
    "ADE",
    "CAMVID",
    "CITYSCAPES",
    "CITYSCAPES_LABEL_IDS",
    "IGNORE_LABEL",
    "PUBLISHED",
    "SHAPES",
    "ClassTable",
    "class_file",
    "distinct_palette",
    "known_classes",
    "load_class_table",
]

IGNORE_LABEL = 255
"""The label value of pixels that count neither in the loss nor in any metric."""


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


_TABLES: dict[str, Any] = yaml.load(
    Path(__file__).with_name("class_tables.yaml").read_text(encoding="utf-8"),
    Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader),  # written in C where it can be had
)


def _published(name: str) -> ClassTable:
    rows: dict[str, str] = _TABLES[name]
    return ClassTable(name, tuple(rows), np.array([list(bytes.fromhex(rows[key])) for key in rows], np.uint8))


PUBLISHED = {name: _published(name) for name in ("ade", "cityscapes", "camvid", "shapes")}
ADE, CITYSCAPES, CAMVID, SHAPES = PUBLISHED.values()

CITYSCAPES_LABEL_IDS: tuple[int, ...] = tuple(_TABLES["cityscapes_label_ids"])
"""The benchmark's labelId of each trainId 0 … 18: what the download and the evaluation server use."""


def load_class_table(path: str | Path) -> ClassTable:
    """Reads the classes of the user's own data from a yaml file.

    The file holds ``names`` (a list, in label order) and, if wanted, ``palette`` (as many colours, each
    ``[r, g, b]`` or ``"#rrggbb"``) and ``name``. Without a palette, colours far apart from each other are chosen.

    Raises:
        DataError: the file is missing, no yaml, or one of its entries is unusable; the message says which.
    """
    path = Path(path)
    example = "expected for example `names: [background, leaf, stem]`"
    try:
        content = read_yaml(path)
    except FileNotFoundError:
        raise DataError(f"class table {path} does not exist; {example}") from None
    except (OSError, ValueError) as error:
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


# Okabe and Ito, "Color Universal Design" (2008), without black: the first classes get these.
_OKABE_ITO = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)

# Machado, Oliveira and Fernandes, "A physiologically-based model for simulation of color vision deficiency"
# (2009), severity 1.0, applied to linear RGB.
_PROTANOPIA = (
    (0.152286, 1.052583, -0.204868),
    (0.114503, 0.786281, 0.099216),
    (-0.003882, -0.048116, 1.051998),
)
_DEUTERANOPIA = (
    (0.367322, 0.860646, -0.227968),
    (0.280085, 0.672501, 0.047413),
    (-0.011820, 0.042940, 0.968881),
)


def distinct_palette(count: int) -> npt.NDArray[np.uint8]:
    """Returns (count, 3) uint8 RGB colours, deterministic; a longer palette begins with the shorter one.

    Greedy farthest-point choice: the next colour is the one whose smallest CIELAB distance to all colours before
    it is largest, where a distance is the worst of normal, protanope and deuteranope vision.
    """
    return _greedy_palette()[:count].copy()


@functools.cache
def _greedy_palette() -> npt.NDArray[np.uint8]:
    levels = np.array([0, 40, 80, 120, 160, 200, 240], np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    candidates = np.concatenate([np.array(_OKABE_ITO, np.uint8), grid[1:]])  # without black
    views = _seen_colours(candidates)
    chosen: list[int] = []
    nearest = np.full(len(candidates), np.inf)
    for step in range(255):
        index = step if step < len(_OKABE_ITO) else int(nearest.argmax())
        chosen.append(index)
        distance = np.linalg.norm(views - views[:, index : index + 1], axis=-1).min(axis=0)
        nearest = np.minimum(nearest, distance)
    palette: npt.NDArray[np.uint8] = candidates[chosen]
    return palette


def _seen_colours(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """(N, 3) RGB -> (3 kinds of vision, N, 3) CIELAB."""
    scaled = rgb.astype(np.float64) / 255
    linear = np.where(scaled <= 0.04045, scaled / 12.92, ((scaled + 0.055) / 1.055) ** 2.4)
    seen = np.stack([linear @ np.array(m).T for m in (np.eye(3), _PROTANOPIA, _DEUTERANOPIA)])
    gamma = np.clip(seen, 0, 1)
    gamma = np.where(gamma <= 0.0031308, gamma * 12.92, 1.055 * gamma ** (1 / 2.4) - 0.055)
    lab: npt.NDArray[np.float64] = np.asarray(cv2.cvtColor(gamma.astype(np.float32), cv2.COLOR_RGB2Lab), np.float64)
    return lab


def known_classes(settings: DatasetSettings) -> ClassTable:
    """The classes of a dataset without its files; those of ``folder`` are in its yaml file.

    Raises:
        ConfigError: the dataset does not tell its classes.
    """
    if settings.name in PUBLISHED:
        return PUBLISHED[settings.name]
    file = class_file(settings)
    if settings.classes is None and not file.is_file():
        raise ConfigError(
            f"dataset={settings.name} does not tell its classes: give num_classes=K or dataset.classes=FILE"
        )
    return load_class_table(file)


def class_file(settings: DatasetSettings) -> Path:
    """The yaml file with the classes of dataset=folder: ``classes.yaml`` in the root, or as named, there or not."""
    named = Path(settings.classes or "classes.yaml").expanduser()
    inside = Path(settings.root or ".").expanduser() / named
    return inside if settings.classes is None or inside.is_file() else named
