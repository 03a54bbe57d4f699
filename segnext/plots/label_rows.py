"""A label PNG that is written row by row: no more of it than a few rows is in memory."""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from segnext.plots.overlays import RGB, Label, palette_table

__all__ = ["label_png_by_rows"]


@contextlib.contextmanager
def label_png_by_rows(path: Path, size: tuple[int, int], palette: RGB) -> Iterator[Callable[[Label], None]]:
    """Yields what takes the labels (rows, W) from top to bottom; the file of ``label_png`` is there after the last.

    Args:
        size: (height, width) in pixels.
        palette: (K, 3) colours of the classes.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with open(unfinished, "wb") as file:
            packer = zlib.compressobj()

            def chunk(kind: bytes, data: bytes) -> None:
                checksum = zlib.crc32(data, zlib.crc32(kind))
                file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum))

            def write(labels: Label) -> None:
                rows = np.zeros((len(labels), size[1] + 1), np.uint8)  # the first byte: stored as they are
                rows[:, 1:] = labels
                chunk(b"IDAT", packer.compress(rows.data))

            file.write(b"\x89PNG\r\n\x1a\n")
            chunk(b"IHDR", struct.pack(">IIBBBBB", size[1], size[0], 8, 3, 0, 0, 0))  # 8 bits, with a palette
            chunk(b"PLTE", palette_table(palette).tobytes())
            yield write
            chunk(b"IDAT", packer.flush())
            chunk(b"IEND", b"")
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
