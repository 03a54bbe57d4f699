"""What label files hold, remembered between runs: twenty thousand files are read once and not before every training."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from segnext.data.reading import read_stored_label
from segnext.data.settings import ReadingSettings
from segnext.errors import SegNeXtError
from segnext.files import cache_home, strict_json, write_atomically

__all__ = ["LabelCache", "LabelSummary"]

_VERSION = 1
_WORTHWHILE = 100  # files; fewer are read in no time


class LabelSummary(NamedTuple):
    """What a label file holds.

    Attributes:
        shape: (height, width) as stored, in pixels.
        values: the stored values that occur, ascending.
        counts: the pixels of each.
        palette: the colours of these values in a palette file; None for a grey one.
        orientation: EXIF orientation 1 … 8; None where the file tells none.
    """

    shape: tuple[int, int]
    values: tuple[int, ...]
    counts: tuple[int, ...]
    palette: Mapping[int, tuple[int, int, int]] | None
    orientation: int | None


@dataclass
class LabelCache:
    """Summaries of the label files below one root; an entry counts while size and time of its file are the same.

    Threads may share one: each looks up and stores entries of its own.
    """

    file: Path
    entries: dict[str, list[Any]] = field(default_factory=dict)
    changed: bool = False

    @classmethod
    def open(cls, root: Path) -> LabelCache:
        """The cache for ``root``, below the home of caches; empty where there is none or it is unusable."""
        key = hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:16]
        cache = cls(cache_home() / "labels" / f"{key}.json")
        try:
            content = json.loads(cache.file.read_text(encoding="utf-8"))
            if content["version"] == _VERSION:
                cache.entries = dict(content["entries"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            pass
        return cache

    def summary(self, path: Path, reading: ReadingSettings) -> LabelSummary:
        """What ``path`` holds; raises DataError as ``read_stored_label``."""
        try:
            status = path.stat()
            stamp = [status.st_size, status.st_mtime_ns]
            entry = self.entries.get(str(path))
            if entry is not None and entry[:2] == stamp:
                return _unpack(entry[2:])
        except (OSError, ValueError, TypeError, AttributeError):
            stamp = []
        summary = _summarise(path, reading)
        if stamp:
            self.entries[str(path)] = [*stamp, *summary]
            self.changed = True
        return summary

    def save(self) -> None:
        """Writes what is new and worth it; a cache that cannot be written is done without."""
        if self.changed and len(self.entries) >= _WORTHWHILE:
            try:
                write_atomically(self.file, strict_json({"version": _VERSION, "entries": self.entries}))
            except (SegNeXtError, OSError):
                return
            self.changed = False


def _summarise(path: Path, reading: ReadingSettings) -> LabelSummary:
    stored = read_stored_label(path, reading)
    if stored.values.dtype == np.uint8:
        pixels = np.bincount(stored.values.ravel(), minlength=256)
        values = np.flatnonzero(pixels)
        counts = pixels[values]
    else:
        values, counts = np.unique(stored.values, return_counts=True)
    used = tuple(int(value) for value in values)
    palette = None if stored.palette is None else {k: stored.palette[k] for k in used if k in stored.palette}
    height, width = stored.values.shape
    return LabelSummary((height, width), used, tuple(int(count) for count in counts), palette, stored.orientation)


def _unpack(entry: list[Any]) -> LabelSummary:
    (height, width), values, counts, palette, orientation = entry
    colours = None if palette is None else {int(k): (int(r), int(g), int(b)) for k, (r, g, b) in palette.items()}
    return LabelSummary((height, width), tuple(values), tuple(counts), colours, orientation)
