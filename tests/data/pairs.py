"""Image and label files for tests."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

WritePair = Callable[..., None]


def write_pair(image_path: Path, label_path: Path, label: int | npt.NDArray[np.uint8] = 0) -> None:
    """Writes an image of random pixels and its label map; an integer ``label`` fills 8 × 12 pixels."""
    pixels = np.full((8, 12), label, np.uint8) if isinstance(label, int) else label
    rng = np.random.default_rng(list(image_path.stem.encode()))
    for path in (image_path, label_path):
        path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(image_path), rng.integers(0, 256, (*pixels.shape, 3), dtype=np.uint8))
    Image.fromarray(pixels).save(label_path)


def write_png(
    path: Path,
    values: npt.NDArray[np.integer],
    *,
    bits: int = 8,
    colour_type: int = 0,
    palette: Sequence[tuple[int, int, int]] = (),
) -> None:
    """Writes (H, W) values as they are: grey (colour type 0) or as indices of a palette (3), with 1 to 16 bits each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = values.shape
    as_bits = (values[:, :, None] >> np.arange(bits)[::-1]) & 1
    rows = b"".join(b"\0" + row.tobytes() for row in np.packbits(as_bits.reshape(height, -1).astype(np.uint8), axis=1))
    colours = list(palette) or [(k, 255 - k, 7) for k in range(2 ** min(bits, 8))]
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0))]
    if colour_type == 3:
        chunks.append((b"PLTE", bytes(value for colour in colours for value in colour)))
    chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    packed = [struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))
