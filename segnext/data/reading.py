"""Image and label files to arrays. Whatever a file holds, the result is right or an error names file and cure."""

from __future__ import annotations

import functools
import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from segnext.data.headers import Header, as_data_error, open_pixels, read_bytes
from segnext.data.settings import Exif, ReadingSettings
from segnext.errors import DataError

__all__ = [
    "Decoded",
    "StoredLabel",
    "decode_image",
    "orientation_of_label",
    "read_image",
    "read_label",
    "read_stored_label",
    "suggest_range",
    "turn",
]

Pixels = npt.NDArray[Any]
UInt8 = npt.NDArray[np.uint8]

_LABEL_FORMATS = ("PNG", "TIFF", "BMP", "GIF")  # lossless, values as stored
_GREY_STEPS = {"L;4": 17, "L;2": 85}
"""Pillow stretches grey values of 4 and 2 bits to 0 … 255, in these steps."""

_log = logging.getLogger(__name__)


class Decoded(NamedTuple):
    """Pixels (H, W, 3) in RGB, upright, uint8 or deeper; the header; and what the decoder complained about."""

    pixels: Pixels
    header: Header
    damage: str = ""


class StoredLabel(NamedTuple):
    """A label file as it is.

    Attributes:
        values: (H, W) uint8 or int32: grey values, or the indices of a palette file.
        palette: the colour of each index of a palette file; None for grey files.
        orientation: EXIF orientation 1 … 8; None where the file tells none.
    """

    values: npt.NDArray[np.integer[Any]]
    palette: Mapping[int, tuple[int, int, int]] | None
    orientation: int | None


def read_image(path: str | Path, settings: ReadingSettings | None = None) -> UInt8:
    """Returns the image as (H, W, 3) uint8 RGB, turned upright as its EXIF data say.

    Damage that the decoder could cover up is logged as a warning that names the file.

    Raises:
        DataError: the file is missing, no image, truncated, too large, has bands beside RGB, or has more than 8 bits
            without ``image_range``.
    """
    settings = settings or ReadingSettings()
    decoded = decode_image(path, settings)
    log_damage(path, decoded.damage)
    return to_uint8(decoded.pixels, path, settings)


def log_damage(path: str | Path, damage: str) -> None:
    """Warns of an image that could be decoded only in part; nothing for an empty ``damage``."""
    if damage:
        warn_once(f"image {path} is damaged: {damage}; restore it or remove the pair")


@functools.cache
def warn_once(text: str) -> None:
    """Logs a warning, only the first time in a process: a file is read many times."""
    _log.warning("%s", text)


def decode_image(path: str | Path, settings: ReadingSettings | None = None) -> Decoded:
    """The upright image, not brought to 8 bits yet; raises as ``read_image``."""
    data = read_bytes(path, "image")
    with as_data_error("image", path, data), io.BytesIO(data) as file:
        header, image = open_pixels(file, "image", path, settings or ReadingSettings())
        refuse_extra_bands(header, path)
        if header.format == "JPEG" and header.mode != "CMYK":
            rgb, damage = _decode_jpeg(data)
            return Decoded(turn(rgb, header.orientation), header, damage)
        pixels = _decode_with_opencv(data) if header.format != "GIF" else None
        if pixels is None:
            if image is None:
                raise DataError(f"image {path} is a TIFF of a kind that no decoder here knows; save it as PNG")
            pixels = _decode_with_pillow(image)
        # both decoders turn a TIFF themselves
        return Decoded(pixels if header.format == "TIFF" else turn(pixels, header.orientation), header)


def refuse_extra_bands(header: Header, path: str | Path) -> None:
    """Raises DataError for bands of which nothing says what the model is to make of them."""
    if header.extra_bands:
        raise DataError(
            f"image {path} has {header.extra_bands} band(s) beside grey or RGB: write the three that the model "
            "is to see into a file of their own"
        )


def _decode_jpeg(data: bytes) -> tuple[UInt8, str]:
    """What strict decoding refuses is decoded as far as it goes, unless the file just stops."""
    try:
        return simplejpeg.decode_jpeg(data, "RGB"), ""
    except ValueError as error:
        damage = str(error)
    if "Premature end of JPEG file" in damage:
        raise DataError(damage)
    return simplejpeg.decode_jpeg(data, "RGB", strict=False), damage


def _decode_with_opencv(data: bytes) -> Pixels | None:
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:  # more pixels than OpenCV allows, for example
        return None
    return None if pixels is None else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)


def _decode_with_pillow(image: Image.Image) -> Pixels:
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        return np.repeat(np.array(image)[:, :, None], 3, axis=2)
    return np.array(image.convert("RGB"))


def to_uint8(pixels: Pixels, path: str | Path, settings: ReadingSettings) -> UInt8:
    """Maps ``image_range`` to 0 … 255; 8-bit pixels are what they are."""
    if pixels.dtype == np.uint8:
        return pixels
    low, high = value_range(pixels, path)
    if settings.image_range is None:
        raise DataError(
            f"image {path} has {8 * pixels.itemsize}-bit values, {low} to {high} in this file: say which range the "
            f"camera uses, such as dataset.image_range={suggest_range(pixels.dtype, low, high)}"
        )
    low, high = settings.image_range
    scaled = (pixels.astype(np.float32) - np.float32(low)) * np.float32(255 / (high - low))
    mapped: UInt8 = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    return mapped


def value_range(pixels: Pixels, path: str | Path) -> tuple[float, float]:
    """The lowest and highest value; raises DataError where one is no number."""
    low, high = pixels.min().item(), pixels.max().item()
    if not np.isfinite(low + high):
        raise DataError(f"image {path} holds values that are no numbers (nan or inf); make it anew")
    return low, high


def suggest_range(dtype: npt.DTypeLike, low: float, high: float) -> str:
    """The range of the sensor or scale behind values from ``low`` to ``high``, as `[low,high]`."""
    if np.dtype(dtype).kind == "f":
        bounds = [bound for bound in (1, 255, 1023, 4095, 16383, 65535) if high <= bound]
    else:
        bounds = [2**bits - 1 for bits in (8, 10, 12, 14, 16) if high <= 2**bits - 1]
    return f"[{0 if low >= 0 else int(np.floor(low))},{bounds[0] if bounds else int(np.ceil(high))}]"


def read_label(path: str | Path, settings: ReadingSettings | None = None) -> UInt8:
    """Returns the label map as (H, W) uint8 exactly as stored: grey values, or the indices of a palette file.

    Raises:
        DataError: as ``read_stored_label``; or the file holds values above 255.
    """
    values = read_stored_label(path, settings).values
    if values.dtype == np.uint8:
        return values.astype(np.uint8, copy=False)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 255:
        raise DataError(f"label {path} holds the value {explain_value(low if low < 0 else high)}")
    return values.astype(np.uint8)


def explain_value(value: int) -> str:
    """A value outside 0 … 255, and what to do about it."""
    why = ", which is -1 in 16 bits," if value == 65535 else ""
    return (
        f"{value}{why}: labels are 0 to 254, and 255 for 'ignore'; if it means 'ignore', set "
        f"'dataset.label_map={{{value}: 255}}'"
    )


def read_stored_label(path: str | Path, settings: ReadingSettings | None = None) -> StoredLabel:
    """Reads a label file without giving its values a meaning.

    Raises:
        DataError: the file is missing, truncated, too large, of a lossy format, or does not hold one value per pixel.
    """
    data = read_bytes(path, "label")
    with as_data_error("label", path, data), io.BytesIO(data) as file:
        header, image = open_pixels(file, "label", path, settings or ReadingSettings())
        if image is None or header.extra_bands:
            raise DataError(f"label {path} is a TIFF with several bands: save class indices as a one-channel PNG")
        if header.format not in _LABEL_FORMATS:
            raise DataError(
                f"label {path} is a {header.format} file, whose format changes or stretches values: write the class "
                "indices anew, as PNG"
            )
        if header.mode in ("LA", "PA"):
            raise_for_transparency(image, header, path)
        pixels = np.array(image.getchannel(0) if header.mode == "LA" else image)
        palette = _palette(image) if header.mode == "P" else None
    if header.mode in ("1", "L", "LA", "P") and not header.raw_mode.endswith("I"):
        step = _GREY_STEPS.get(header.raw_mode, 1)
        values: npt.NDArray[np.integer[Any]] = pixels.astype(np.uint8) if step == 1 else pixels // np.uint8(step)
    elif header.mode.startswith("I") and pixels.ndim == 2:
        values = pixels.astype(np.int32)
        if not values.size or (values.min() >= 0 and values.max() <= 255):
            values = values.astype(np.uint8)
    else:
        raise DataError(
            f"label {path} is {_KINDS.get(header.mode, 'a colour image')} (mode {header.mode}): a label PNG must hold "
            "class indices, grey or with a palette; replace each colour by the index of its class and save it as a "
            "one-channel PNG"
        )
    turned = header.format == "TIFF" and header.orientation  # by Pillow
    return StoredLabel(values, palette, 1 if turned else header.orientation)


_KINDS = {
    "F": "an image of fractions",
    "L": "a grey image with white as 0",
    "1": "a grey image with white as 0",
    "PA": "a palette image with transparency",
}


def raise_for_transparency(image: Image.Image, header: Header, path: str | Path) -> None:
    """A grey label with an alpha channel is clear only where that channel says nothing."""
    opaque = header.mode == "LA" and image.getchannel("A").getextrema() == (255, 255)
    if not opaque or "16" in header.raw_mode:
        raise DataError(
            f"label {path} is grey with transparency (mode {header.mode}): mark pixels to be left out with 255 and "
            "save it as a one-channel PNG"
        )


def _palette(image: Image.Image) -> dict[int, tuple[int, int, int]]:
    flat = image.getpalette("RGB") or []
    return {k: (flat[3 * k], flat[3 * k + 1], flat[3 * k + 2]) for k in range(len(flat) // 3)}


def orientation_of_label(
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
