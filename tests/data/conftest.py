from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

WritePair = Callable[..., None]


@pytest.fixture
def write_pair() -> WritePair:
    """Writes an image of random pixels and a label map; ``label`` may be a value for all pixels."""

    def write(image_path: Path, label_path: Path, label: int | npt.NDArray[np.uint8] = 0) -> None:
        pixels = np.full((8, 12), label, np.uint8) if isinstance(label, int) else label
        rng = np.random.default_rng(list(image_path.stem.encode()))
        for path in (image_path, label_path):
            path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(image_path), rng.integers(0, 256, (*pixels.shape, 3), dtype=np.uint8))
        Image.fromarray(pixels).save(label_path)

    return write


@pytest.fixture
def shared_data() -> Path:
    """The folder of real images; skips the test where it is missing."""
    shared = Path(os.environ.get("SEGNEXT_SHARED", Path(__file__).parents[3] / "shared"))
    if not (shared / "data").is_dir():
        pytest.skip("no real images here (SEGNEXT_SHARED or ../shared)")
    return shared / "data"
