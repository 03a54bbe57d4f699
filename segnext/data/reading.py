"""Image and label files to arrays, with an error that names the file when one is broken."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from segnext.errors import DataError

__all__ = ["read_image", "read_label"]

_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"


def read_image(path: str | Path) -> npt.NDArray[np.uint8]:
    """Returns the image as (H, W, 3) uint8 RGB, turned upright as its EXIF data say.

    OpenCV decodes, as in the official pipeline; what it refuses or what looks cut off is left to Pillow, whose
    verdict is exact.

    Raises:
        DataError: the file is missing, no image, or truncated.
    """
    data = _read_bytes(path, "image")
    cut_off = data.startswith(_JPEG_START) and not data.rstrip(b"\0").endswith(_JPEG_END)
    pixels = None
    if data and not cut_off:
        try:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        except cv2.error:  # more pixels than OpenCV allows, for example
            pixels = None
    if pixels is None:
        return _decode_with_pillow(data, path)
    rgb: npt.NDArray[np.uint8] = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)
    return rgb


def _decode_with_pillow(data: bytes, path: str | Path) -> npt.NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _broken("image", path, data, error) from error


def read_label(path: str | Path) -> npt.NDArray[np.uint8]:
    """Returns the label map as (H, W) uint8 exactly as stored: grey values, or the indices of a palette file.

    Raises:
        DataError: the file is missing, no image or truncated; it is a colour image; it holds values above 255.
    """
    data = _read_bytes(path, "label")
    try:
        with Image.open(io.BytesIO(data)) as image:
            mode = image.mode
            pixels = np.array(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _broken("label", path, data, error) from error
    if mode in ("L", "P"):
        return pixels
    if mode == "1":
        return pixels.astype(np.uint8)
    if mode.startswith("I") and pixels.ndim == 2:
        low, high = int(pixels.min()), int(pixels.max())
        if low < 0 or high > 255:
            value = low if low < 0 else high
            raise DataError(f"label {path} holds the value {value}: labels are 0 to 254, and 255 for 'ignore'")
        return pixels.astype(np.uint8)
    raise DataError(
        f"label {path} is a colour image (mode {mode}): a label PNG must hold class indices, grey or with a "
        "palette; replace each colour by the index of its class and save it as a one-channel PNG"
    )


def _read_bytes(path: str | Path, what: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise DataError(f"{what} {path} does not exist (any more); restore it") from None
    except OSError as error:
        raise DataError(f"{what} {path} cannot be read: {error}; check the path and its permissions") from error


def _broken(what: str, path: str | Path, data: bytes, error: Exception) -> DataError:
    if not data:
        reason = "the file is empty"
    elif isinstance(error, UnidentifiedImageError):
        reason = "it is no image file, or its beginning is damaged"
    else:
        reason = str(error)
    return DataError(f"{what} {path} cannot be decoded: {reason}; copy or download it again, or remove the pair")
