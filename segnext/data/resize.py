"""The one rule by which training and evaluation choose image sizes. Sizes are (height, width) throughout."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["keep_ratio_size", "resize_image", "resize_label", "resize_to_multiple_size"]


def keep_ratio_size(height: int, width: int, scale: tuple[int, int]) -> tuple[int, int]:
    """Returns the largest size of the same shape that fits ``scale`` = (long side, short side), in pixels.

    The image is enlarged as well as shrunk; sides are rounded half up. The order within ``scale`` is of no matter.
    """
    factor = min(max(scale) / max(height, width), min(scale) / min(height, width))
    return max(int(height * factor + 0.5), 1), max(int(width * factor + 0.5), 1)


def resize_to_multiple_size(height: int, width: int, divisor: int = 32) -> tuple[int, int]:
    """Returns both sides rounded up to a multiple of ``divisor``: the image is stretched to it, not padded."""
    return -(-height // divisor) * divisor, -(-width // divisor) * divisor


def resize_image(image: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Resizes (H, W, 3) uint8 bilinearly to ``size`` = (height, width); the same array if it has that size."""
    return _resize(image, size, cv2.INTER_LINEAR)


def resize_label(label: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Resizes (H, W) uint8 to ``size`` = (height, width) by nearest neighbour; the same array if it has that size."""
    return _resize(label, size, cv2.INTER_NEAREST)


def _resize(array: npt.NDArray[np.uint8], size: tuple[int, int], method: int) -> npt.NDArray[np.uint8]:
    if array.shape[:2] == size:
        return array
    height, width = size
    resized: npt.NDArray[np.uint8] = cv2.resize(array, (width, height), interpolation=method)
    return resized
