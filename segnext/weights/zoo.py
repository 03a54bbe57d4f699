"""The published checkpoints by name: ``zoo:tiny_ade`` … ``zoo:large_cityscapes`` and ``zoo:mscan_tiny`` ….

Addresses are those printed in the READMEs of JSeg (direct links to Jittor files) and of the SegNeXt repository
(direct links to PyTorch segmentation checkpoints; for the ImageNet backbones a folder to choose from by hand).
Neither publishes checksums: the first copy of a file is trusted, its SHA-256 is noted beside it, and every later use
is checked against that.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from segnext.errors import WeightsError
from segnext.weights.download import Download, check, fetch

__all__ = ["PREFIX", "ZOO", "ZooEntry", "ZooFile", "cache_folder", "locate"]

PREFIX = "zoo:"

_JITTOR_HUB = "https://cg.cs.tsinghua.edu.cn/jittor/assets/build/checkpoints/"
_TSINGHUA_CLOUD = "https://cloud.tsinghua.edu.cn/f/{}/?dl=1"
_PAGES = "https://github.com/Jittor/JSeg and https://github.com/Visual-Attention-Network/SegNeXt"
_BACKBONE_FOLDER = "https://cloud.tsinghua.edu.cn/d/c15b25a6745946618462/"

# SegNeXt README, columns "Download"
_CLOUD_FILES = {
    "tiny_ade": "5da98841b8384ba0988a",
    "small_ade": "b2d1eb94f5944d60b3d2",
    "base_ade": "1ea8000916284493810b",
    "large_ade": "d4f8e1020643414fbf7f",
    "tiny_cityscapes": "b1613af9955849bba910",
    "small_cityscapes": "14148cf5371a4f248db1",
    "base_cityscapes": "adb49029f66f426bb046",
    "large_cityscapes": "b5308d092b034f81aac0",
}


@dataclass(frozen=True)
class ZooFile:
    """One published file: its name in the cache folder and its address, None where only ``ZooEntry.page`` is known."""

    name: str
    url: str | None


@dataclass(frozen=True)
class ZooEntry:
    """A checkpoint of the zoo: any one of ``files`` will do, the first is preferred; ``page`` is who publishes them."""

    files: tuple[ZooFile, ...]
    page: str
    is_backbone: bool


def _segmentation(size: str, dataset: str) -> ZooEntry:
    crop = {"ade": "512x512_ade", "cityscapes": "1024x1024_city"}[dataset]
    stem = f"segnext_{size}_{crop}_160k"
    cloud = _TSINGHUA_CLOUD.format(_CLOUD_FILES[f"{size}_{dataset}"])
    files = (ZooFile(f"{stem}.pkl", f"{_JITTOR_HUB}{stem}.pkl"), ZooFile(f"{stem}.pth", cloud))
    return ZooEntry(files, _PAGES, is_backbone=False)


def _backbone(size: str) -> ZooEntry:
    stem = f"mscan_{size[0]}"
    files = (ZooFile(f"{stem}.pkl", f"{_JITTOR_HUB}{stem}.pkl"), ZooFile(f"{stem}.pth", None))
    return ZooEntry(files, _BACKBONE_FOLDER, is_backbone=True)


_SIZES = ("tiny", "small", "base", "large")
ZOO: dict[str, ZooEntry] = {
    **{f"{size}_{dataset}": _segmentation(size, dataset) for dataset in ("ade", "cityscapes") for size in _SIZES},
    **{f"mscan_{size}": _backbone(size) for size in _SIZES},
}


def cache_folder() -> Path:
    """Returns the folder of downloaded weights: ``$SEGNEXT_HOME/weights``, by default below ``~/.cache/segnext``."""
    home = os.environ.get("SEGNEXT_HOME")
    return (Path(home) if home else Path.home() / ".cache" / "segnext") / "weights"


def locate(path: str | Path, *, progress: bool | None = None) -> Path:
    """Returns where a weights file lies; a name like ``zoo:tiny_ade`` is downloaded when it is not there yet.

    A file of the right name put into ``cache_folder()`` by hand is taken as it is, without any network.

    Args:
        path: a path, returned unchanged, or ``zoo:NAME``.
        progress: show a progress bar while downloading; None does in a terminal.

    Raises:
        WeightsError: unknown name, a file that has changed since its first use, or a download that failed.
    """
    text = str(path)
    if not text.startswith(PREFIX):
        return Path(path).expanduser()
    name = text.removeprefix(PREFIX)
    if name not in ZOO:
        raise WeightsError(f"{text} is not in the zoo: choose one of {', '.join(PREFIX + known for known in ZOO)}")
    entry, folder = ZOO[name], cache_folder()
    for file in entry.files:
        present = folder / file.name
        if present.exists():
            check(present, source=file.url or entry.page)
            return present
    failures = []
    for file in entry.files:
        if file.url is None:
            continue
        try:
            fetch(Download(file.url, folder / file.name), progress=progress)
        except WeightsError as error:
            failures.append(str(error))
            continue
        check(folder / file.name, source=file.url)
        return folder / file.name
    raise WeightsError(_by_hand(text, entry, folder, failures))


def _by_hand(name: str, entry: ZooEntry, folder: Path, failures: list[str]) -> str:
    lines = [f"{name} could not be downloaded:", *(f"  {failure}" for failure in failures)]
    lines.append("  cure: try again when the network works (what was received is kept), or on another machine get")
    lines += [f"    {file.url}" for file in entry.files if file.url]
    lines.append(f"    (published at {entry.page})")
    lines.append(f"  and put it as {' or '.join(file.name for file in entry.files)} into {folder}")
    if entry.is_backbone:
        lines.append("  or train from scratch with model.pretrained=null")
    return "\n".join(lines)
