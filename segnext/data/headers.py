"""What the beginning of an image file tells, and how a file is opened: safely, whatever it holds.

Only formats that hold pixels and nothing else are opened: Pillow would start Ghostscript for an EPS file.
"""

from __future__ import annotations

import contextlib
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from PIL import Image, TiffImagePlugin, WebPImagePlugin

from segnext.data.settings import ReadingSettings
from segnext.errors import DataError

__all__ = ["IMAGE_SUFFIXES", "Header", "as_data_error", "is_image", "open_pixels", "read_bytes", "read_header"]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm")
_IMAGE_FORMATS = ("PNG", "JPEG", WebPImagePlugin.WebPImageFile.format, "TIFF", "BMP", "GIF", "PPM")
_ORIENTATION, _BITS, _SAMPLES, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 274, 258, 277, 338, 339  # tags of TIFF and EXIF
_UNREADABLE = (OSError, ValueError, SyntaxError, TypeError, KeyError, IndexError, OverflowError, EOFError, struct.error)
"""What Pillow raises for damaged files."""


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


def read_header(path: str | Path, settings: ReadingSettings | None = None) -> Header:
    """The header of an image, without decoding it; raises DataError as ``read_image`` does."""
    _require_file(path, "image")
    with as_data_error("image", path, b"?"), open(path, "rb") as file:
        return open_pixels(file, "image", path, settings or ReadingSettings())[0]


def is_image(path: Path) -> bool:
    """Whether the file begins like an image of a format that is read, whatever it is called."""
    try:
        with open(path, "rb") as file:
            start = file.read(16)
    except OSError:
        return False
    Image.preinit()
    accepts = (Image.OPEN[name][1] for name in _IMAGE_FORMATS)
    return any(accept is not None and accept(start) is True for accept in accepts)


def open_pixels(
    file: IO[bytes], what: str, path: str | Path, settings: ReadingSettings
) -> tuple[Header, Image.Image | None]:
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
    start = file.read(16)
    tags = TiffImagePlugin.ImageFileDirectory_v2(start if start[2] == 43 else start[:8])  # 43: BigTIFF, above 4 GiB
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


def read_bytes(path: str | Path, what: str) -> bytes:
    _require_file(path, what)
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{what} {path} cannot be read: {error}; check the path and its permissions") from error


@contextlib.contextmanager
def as_data_error(what: str, path: str | Path, data: bytes) -> Iterator[None]:
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
