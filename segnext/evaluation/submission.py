"""Files that the benchmark servers accept: Cityscapes labelIds and ADE20K scene-parsing PNGs, zipped.

Cityscapes wants one ``<city>_<sequence>_<frame>*.png`` per image with the *labelIds* of the full label set;
the ADE20K challenge wants ``<image name>.png`` with classes counted from 1.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segnext.data.classes import CITYSCAPES_LABEL_IDS
from segnext.errors import ConfigError, DataError

__all__ = ["SubmissionWriter", "require_benchmark"]

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest date a zip can hold: equal predictions give equal bytes


def _cityscapes_name(name: str) -> str:
    return f"{Path(name).name.removesuffix('_leftImg8bit')}_labelIds.png"


def _ade_name(name: str) -> str:
    return f"{Path(name).name}.png"


_FORMATS: dict[str, tuple[NDArray[np.uint8], Callable[[str], str]]] = {
    "cityscapes": (np.array(CITYSCAPES_LABEL_IDS, np.uint8), _cityscapes_name),
    "ade": (np.arange(1, 151, dtype=np.uint8), _ade_name),
}


def require_benchmark(dataset: str) -> None:
    """Raises ConfigError when there is no submission format for ``dataset``."""
    if dataset not in _FORMATS:
        raise ConfigError(
            f"there is no submission format for dataset={dataset}: only for {', '.join(_FORMATS)}; "
            "set evaluation.submission=false"
        )


@dataclass
class SubmissionWriter:
    """Collects predictions in a folder and zips them.

    Args:
        dataset: ``ade`` or ``cityscapes``.
        folder: where the PNGs go; created.

    Raises:
        ConfigError: the benchmark has no submission format here.
    """

    dataset: str
    folder: Path
    _checksums: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_benchmark(self.dataset)
        self.folder = Path(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def add(self, name: str, prediction: NDArray[np.integer[Any]]) -> Path:
        """Writes the PNG of one image; ``name`` is the data set's, ``prediction`` (H, W) holds class numbers."""
        table, file_name = _FORMATS[self.dataset]
        file = file_name(name)
        if file in self._checksums:
            raise DataError(f"two images of the submission are called {file}: file names must be unique")
        stored = table[prediction]
        path = self.folder / file
        Image.fromarray(stored).save(path, compress_level=6)
        self._checksums[file] = _checksum(stored)
        return path

    @property
    def written(self) -> dict[str, int]:
        """Checksums of the pictures by file name."""
        return dict(self._checksums)

    def include(self, written: Mapping[str, int]) -> None:
        """Takes in what another process has ``written`` into the same folder."""
        self._checksums.update(written)

    def finish(self) -> Path:
        """Zips all PNGs next to the folder, reads the zip back and compares every picture; returns its path.

        Raises:
            DataError: nothing was added, or what was read back differs from what was predicted.
        """
        if not self._checksums:
            raise DataError("the submission is empty: no image was predicted")
        archive = self.folder.with_suffix(".zip")
        partial = archive.with_suffix(".zip.partial")
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as out:  # PNGs are compressed already
            for file in sorted(self._checksums):
                info = zipfile.ZipInfo(file, _EPOCH)
                info.external_attr = 0o644 << 16
                out.writestr(info, (self.folder / file).read_bytes())
        self._verify(partial)
        partial.replace(archive)
        return archive

    def _verify(self, archive: Path) -> None:
        with zipfile.ZipFile(archive) as stored:
            if sorted(stored.namelist()) != sorted(self._checksums):
                raise DataError(f"{archive} does not hold the files that were written: the disk may be full")
            for file, checksum in self._checksums.items():
                with Image.open(io.BytesIO(stored.read(file))) as image:
                    read = np.asarray(image)
                if read.dtype != np.uint8 or read.ndim != 2 or _checksum(read) != checksum:
                    raise DataError(f"{file} in {archive} differs from the prediction: the disk may be full")


def _checksum(labels: NDArray[np.uint8]) -> int:
    """CRC-32 over the shape and the pixels of a label map."""
    return zlib.crc32(np.ascontiguousarray(labels).tobytes(), zlib.crc32(repr(labels.shape).encode()))
