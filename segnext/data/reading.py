"""Image and label files to arrays. Whatever a file holds, the result is right or an error names file and cure.

Only formats that hold pixels and nothing else are opened: Pillow would start Ghostscript for an EPS file.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, TiffImagePlugin, WebPImagePlugin

from segnext.data.settings import Exif, ReadingSettings
from segnext.errors import DataError

__all__ = [
    "IMAGE_SUFFIXES",
    "Decoded",
    "Header",
    "StoredLabel",
    "decode_image",
    "label_turn",
    "read_header",
    "read_image",
    "read_label",
    "read_stored_label",
    "suggest_range",
    "turn",
]

Pixels = npt.NDArray[Any]
UInt8 = npt.NDArray[np.uint8]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm")
_IMAGE_FORMATS = ("PNG", "JPEG", WebPImagePlugin.WebPImageFile.format, "TIFF", "BMP", "GIF", "PPM")
_LABEL_FORMATS = ("PNG", "TIFF", "BMP", "GIF")  # lossless, values as stored
_ORIENTATION, _BITS, _SAMPLES, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 274, 258, 277, 338, 339  # tags of TIFF and EXIF
_GREY_STEPS = {"L;4": 17, "L;2": 85}
"""Pillow stretches grey values of 4 and 2 bits to 0 … 255, in these steps."""
_UNREADABLE = (OSError, ValueError, SyntaxError, TypeError, KeyError, IndexError, OverflowError, EOFError)
"""What Pillow raises for damaged files."""

_log = logging.getLogger(__name__)


class Header(NamedTuple):
    """What a file's beginning tells of its pixels.

    Attributes:
        format: "PNG", "JPEG" …
        height, width: as stored, in pixels.
        mode: Pillow's name of the pixel type; empty where it has none.
        raw_mode: the type as stored, before Pillow adapts it.
        orientation: EXIF orientation 1 … 8; None where the file tells none.
        deep: values have more than 8 bits.
        extra_bands: bands beside grey or RGB that are no transparency.
    """

    format: str
    height: int
    width: int
    mode: str
    raw_mode: str
    orientation: int | None
    deep: bool
    extra_bands: int = 0


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
    data = _read_bytes(path, "image")
    with _explained("image", path, data), io.BytesIO(data) as file:
        header, image = _open(file, "image", path, settings or ReadingSettings())
        if header.extra_bands:
            raise DataError(
                f"image {path} has {header.extra_bands} band(s) beside grey or RGB: write the three that the model "
                "is to see into a file of their own"
            )
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
    if not np.isfinite(pixels).all():
        raise DataError(f"image {path} holds values that are no numbers (nan or inf); make it anew")
    if settings.image_range is None:
        low, high = pixels.min().item(), pixels.max().item()
        raise DataError(
            f"image {path} has {8 * pixels.itemsize}-bit values, {low} to {high} in this file: say which range the "
            f"camera uses, such as dataset.image_range={suggest_range(pixels.dtype, low, high)}"
        )
    low, high = settings.image_range
    scaled = (pixels.astype(np.float32) - np.float32(low)) * np.float32(255 / (high - low))
    mapped: UInt8 = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    return mapped


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
    data = _read_bytes(path, "label")
    with _explained("label", path, data), io.BytesIO(data) as file:
        header, image = _open(file, "label", path, settings or ReadingSettings())
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


def read_header(path: str | Path, settings: ReadingSettings | None = None) -> Header:
    """The header of an image, without decoding it; raises DataError as ``read_image`` does."""
    _require_file(path, "image")
    with _explained("image", path, b"?"), open(path, "rb") as file:
        return _open(file, "image", path, settings or ReadingSettings())[0]


def _open(file: IO[bytes], what: str, path: str | Path, settings: ReadingSettings) -> tuple[Header, Image.Image | None]:
    """The header, and the file as Pillow opens it: pixels are decoded at first use. None for a TIFF it can't open."""
    start = file.read(16)
    file.seek(0)
    Image.preinit()
    for name in _IMAGE_FORMATS:
        factory, accept = Image.OPEN[name]
        if accept is None or accept(start) is not True:
            continue
        if name == "TIFF":
            return _open_tiff(file, factory, what, path, settings)
        # not by Image.open, which has a limit of pixels of its own
        image = factory(file, "")
        _limit(what, path, image.width * image.height, settings)
        raw = _raw_mode(image)
        deep = "16" in raw or (name == "PPM" and _largest_value(image) > 255)
        return Header(name, image.height, image.width, image.mode, raw, _orientation(image), deep), image
    raise DataError(f"it is no image of a known format ({', '.join(_IMAGE_FORMATS)}), or its beginning is damaged")


def _open_tiff(
    file: IO[bytes], factory: Any, what: str, path: str | Path, settings: ReadingSettings
) -> tuple[Header, Image.Image | None]:
    tags = TiffImagePlugin.ImageFileDirectory_v2(file.read(8))
    file.seek(tags.next)
    tags.load(file)
    height, width = int(tags[257]), int(tags[256])
    _limit(what, path, height * width, settings)
    bits, kinds = tags.get(_BITS, (1,)), tags.get(_SAMPLE_FORMAT, (1,))
    samples = int(tags.get(_SAMPLES, 1))
    alpha = sum(kind in (1, 2) for kind in tags.get(_EXTRA_SAMPLES, ()))
    colours = 4 if tags.get(262) == 5 else 3 if samples - alpha >= 3 else 1  # 5: CMYK
    deep = max(bits) > 8 or any(kind in (2, 3) for kind in kinds)
    file.seek(0)
    try:
        image = factory(file, "")
        mode, raw = image.mode, _raw_mode(image)
    except _UNREADABLE:
        image, mode, raw = None, "", ""
    orientation = tags.get(_ORIENTATION)
    orientation = orientation if orientation in range(1, 9) else None
    return Header("TIFF", height, width, mode, raw, orientation, deep, samples - alpha - colours), image


def _limit(what: str, path: str | Path, pixels: int, settings: ReadingSettings) -> None:
    if pixels > 1e6 * settings.max_megapixels:
        raise DataError(
            f"{what} {path} has {pixels / 1e6:.0f} megapixels, above dataset.max_megapixels="
            f"{settings.max_megapixels:g}: cut it into tiles, or raise the limit if there is memory for it"
        )


def _raw_mode(image: Image.Image) -> str:
    tiles = getattr(image, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments or "")


def _largest_value(image: Image.Image) -> int:
    arguments = image.tile[0][3] if getattr(image, "tile", None) else ""  # type: ignore[attr-defined]
    return int(arguments[-1]) if isinstance(arguments, tuple) and isinstance(arguments[-1], int) else 255


def _orientation(image: Image.Image) -> int | None:
    block = image.info.get("exif")
    if not block:
        return None
    exif = Image.Exif()
    try:
        exif.load(block)
        value = exif.get(_ORIENTATION)
    except Exception:  # damaged EXIF data tell nothing
        return None
    return value if value in range(1, 9) else None


def _require_file(path: str | Path, what: str) -> None:
    try:
        mode = Path(path).stat().st_mode
    except FileNotFoundError:
        raise DataError(f"{what} {path} does not exist (any more); restore it") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{what} {path} cannot be read: {error}; check the path and its permissions") from error
    if not stat.S_ISREG(mode):  # a pipe would be waited for without end
        raise DataError(f"{what} {path} is no regular file; name a file, or remove the pair")


def _read_bytes(path: str | Path, what: str) -> bytes:
    _require_file(path, what)
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{what} {path} cannot be read: {error}; check the path and its permissions") from error


@contextlib.contextmanager
def _explained(what: str, path: str | Path, data: bytes) -> Iterator[None]:
    """Turns a decoder's exception into a DataError that names the file and what to do."""
    reason = ""
    try:
        yield
    except DataError as error:
        if str(path) in str(error):
            raise
        reason = str(error)
    except (*_UNREADABLE, MemoryError) as error:
        reason = str(error) or type(error).__name__
    if reason:
        reason = reason if data else "the file is empty"
        raise DataError(f"{what} {path} cannot be decoded: {reason}; copy or download it again, or remove the pair")
