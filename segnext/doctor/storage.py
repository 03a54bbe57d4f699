"""Disk space for runs and caches."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from segnext.doctor.finding import Finding, ok, problem, warning

__all__ = ["check_folder", "jittor_home", "size"]

_GB = 1e9
_LOW, _TOO_LOW = 5 * _GB, 0.5 * _GB


def check_folder(topic: str, folder: str | Path) -> Finding:
    """Whether ``folder`` can be made or written, and how much space its disk has."""
    place = Path(folder).expanduser().absolute()
    existing = next(path for path in (place, *place.parents) if path.exists())
    if not existing.is_dir():
        return problem(topic, f"{existing} is no folder", "move that file away, or choose another folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        return problem(topic, f"{existing} cannot be written", "choose another folder, or correct its permissions")
    free = shutil.disk_usage(existing).free
    text = f"{free / _GB:.1f} GB free in {place}"
    if free < _TOO_LOW:
        return problem(topic, text, "free some space: runs and compiled operators do not fit")
    if free < _LOW:
        return warning(topic, text, "free some space: a run of a large model takes about 1 GB")
    return ok(topic, text)


def jittor_home() -> Path:
    """The folder in which Jittor keeps what it compiles, unless its own configuration file says otherwise."""
    return Path(os.environ.get("JITTOR_HOME") or Path.home()) / ".cache" / "jittor"


def size(folder: Path) -> int:
    """Bytes of all files below ``folder``; those that vanish meanwhile are left out."""
    total = 0
    for path, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.lstat(os.path.join(path, name)).st_size
            except OSError:
                continue
    return total
