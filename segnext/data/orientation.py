"""EXIF orientation: which way up an image is, and whether its label was drawn before or after it was turned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segnext.data.headers import Header
from segnext.data.settings import Exif, ReadingSettings
from segnext.errors import DataError

__all__ = ["label_turn", "turn"]


def label_turn(
    image: Header,
    label_shape: Sequence[int],
    label_orientation: int | None,
    *,
    paths: tuple[Path, Path],
    settings: ReadingSettings,
) -> int | None:
    """The EXIF orientation by which a label has to be turned to lie on its upright image.

    Args:
        label_shape: (height, width) as stored.
        paths: of image and label, for the message.

    Raises:
        DataError: the image is turned, and nothing tells whether its label was drawn before or after.
    """
    if settings.exif is Exif.image:
        return None
    if settings.exif is Exif.both:
        return image.orientation
    if label_orientation is not None:
        return label_orientation
    if image.orientation in (None, 1):
        return None
    if (image.orientation or 1) >= 5 and image.height != image.width:
        return image.orientation if tuple(label_shape) == (image.height, image.width) else None
    raise DataError(
        f"image {paths[0]} has the EXIF orientation {image.orientation} (to be turned or mirrored), and nothing tells "
        f"whether its label {paths[1]} was drawn on the turned picture or on the pixels as stored: set "
        "dataset.exif=image for the first, dataset.exif=both for the second"
    )


def turn(array: Any, orientation: int | None) -> Any:
    """Turns and mirrors (H, W, …) as the EXIF ``orientation`` asks for; contiguous."""
    if orientation in (None, 1):
        return array
    if orientation in (5, 7):
        array = array.swapaxes(0, 1)
    if orientation in (6, 8):
        array = np.rot90(array, -1 if orientation == 6 else 1)
    rows = slice(None, None, -1 if orientation in (3, 4, 7) else 1)
    columns = slice(None, None, -1 if orientation in (2, 3, 7) else 1)
    return np.ascontiguousarray(array[rows, columns])
