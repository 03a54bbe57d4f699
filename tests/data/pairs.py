"""Image and label files for tests."""

from __future__ import annotations

from collections.abc import Callable
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
