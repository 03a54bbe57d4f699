"""Which image files a user means, and what the results of each are called."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from segnext.errors import ConfigError

__all__ = ["find_images", "result_names"]


def find_images(pattern: str) -> list[Path]:
    """The image files that ``pattern`` names, sorted.

    Args:
        pattern: one file, whatever its suffix; a folder, of which all files with the suffix of an image are taken
            (not those of its sub-folders); or a glob pattern, ``**`` for any depth, of which every file is taken.

    Raises:
        ConfigError: there is no such file, the folder holds no images, or the pattern matches nothing.
    """
    path = Path(pattern).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        Image.init()
        suffixes = Image.registered_extensions()
        found = [file for file in path.iterdir() if file.is_file() and file.suffix.lower() in suffixes]
        if not found:
            raise ConfigError(f"input={pattern} holds no images: name a folder with image files, or a pattern")
        return sorted(found)
    matches = sorted(Path(match) for match in glob.glob(str(path), recursive=True))
    files = [match for match in matches if match.is_file()]
    if not files:
        what = "matches no files" if glob.has_magic(pattern) else "does not exist"
        raise ConfigError(f"input={pattern} {what}: name an image, a folder of images, or a quoted pattern")
    return files


def result_names(files: Sequence[Path]) -> list[str]:
    """A name for the results of each file, unique: its stem, with more of its path where stems agree."""
    parts = [(file.stem, file.name.replace(".", "_"), *reversed(file.absolute().parts[:-1])) for file in files]
    names = [part[0] for part in parts]
    for depth in range(1, max(map(len, parts))):
        counts = Counter(name.lower() for name in names)  # some file systems do not tell a from A
        if max(counts.values()) == 1:
            break
        for k, name in enumerate(names):
            if counts[name.lower()] > 1 and depth < len(parts[k]):
                names[k] = parts[k][1] if depth == 1 else f"{parts[k][depth]}_{name}".replace("/", "")
    return names
