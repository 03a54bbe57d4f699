"""Images of more pixels than are held at a time: a TIFF lies in tiles or strips, of which those wanted are decoded."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segnext.data.headers import as_data_error, read_header
from segnext.data.reading import refuse_extra_bands, to_uint8
from segnext.data.settings import ReadingSettings
from segnext.errors import ConfigError, DataError

__all__ = ["ImageInParts", "is_read_in_parts", "open_in_parts"]

_COLOURS = {1: 1, 2: 3, 6: 3}
"""Colour channels of TIFF's grey, RGB and YCbCr; decoders make the last one RGB."""


class ImageInParts:
    """An open TIFF; a row is decoded when it is asked for.

    Attributes:
        height, width: in pixels.
    """

    def __init__(self, path: str | Path, file: Any, settings: ReadingSettings) -> None:
        self._path, self._settings, self._stream = path, settings, file.filehandle
        self._page = page = file.pages[0]
        self.height, self.width = int(page.imagelength), int(page.imagewidth)
        self._planes = page.samplesperpixel if page.planarconfig == 2 else 1
        self._piece = page.tile[-2:] if page.is_tiled else (min(page.rowsperstrip, self.height), self.width)
        if page.photometric not in _COLOURS or page.bitspersample < 8 or page.imagedepth > 1:
            raise DataError(
                f"image {path} is neither grey nor RGB of 8 bits or more: save it so to predict it in parts"
            )
        if min(self._piece) < 1:
            raise DataError("its tiles or strips have no size")
        if math.prod(self._piece) > 1e6 * settings.max_megapixels:
            raise DataError(
                f"image {path} lies in pieces of {math.prod(self._piece) / 1e6:.0f} megapixels, above "
                f"dataset.max_megapixels={settings.max_megapixels:g}: save it in tiles "
                "(gdal_translate -co TILED=YES, or vips tiffsave --tile)"
            )

    def rows(self, start: int, stop: int) -> npt.NDArray[np.uint8]:
        """Rows ``start`` … ``stop`` - 1 as (stop - start, width, 3) uint8 RGB.

        Raises:
            DataError: they cannot be decoded, or have more than 8 bits without ``image_range``.
        """
        page, (piece_height, piece_width) = self._page, self._piece
        samples = page.samplesperpixel // self._planes
        bands = np.zeros((self._planes, stop - start, self.width, samples), page.dtype)
        down, across = -(-self.height // piece_height), -(-self.width // piece_width)
        first, last = start // piece_height * across, -(-stop // piece_height) * across
        for index in (plane * down * across + k for plane in range(self._planes) for k in range(first, last)):
            decoded, (plane, _, top, left, _), _ = self._decode(index)
            if decoded is not None:  # a piece that the file leaves out is black
                upper, lower = max(top, start), min(top + decoded.shape[1], stop)
                target = bands[plane, upper - start : lower - start, left : left + piece_width]
                target[:] = decoded[0, upper - top : lower - top, : target.shape[1]]
        pixels = np.concatenate(list(bands), axis=2)
        grey = _COLOURS[page.photometric] == 1
        return to_uint8(pixels[:, :, [0, 0, 0]] if grey else pixels[:, :, :3], self._path, self._settings)

    def _decode(self, index: int) -> Any:
        page = self._page
        try:
            self._stream.seek(page.dataoffsets[index])
            data = self._stream.read(page.databytecounts[index]) or None
            return page.decode(data, index, jpegtables=page.jpegtables)
        except Exception as error:  # of any of many decoders
            cure = "copy or download it again"
            if "imagecodecs" in str(error):
                cure = "pip install imagecodecs, or save it uncompressed or with deflate"
            raise DataError(f"image {self._path} cannot be decoded: {error}; {cure}") from error


def is_read_in_parts(path: str | Path, settings: ReadingSettings) -> bool:
    """Whether the file is a TIFF above ``max_megapixels``; raises DataError as ``read_image`` for what is no image."""
    header = read_header(path, ReadingSettings(max_megapixels=math.inf))
    return header.format == "TIFF" and header.height * header.width > 1e6 * settings.max_megapixels


@contextlib.contextmanager
def open_in_parts(path: str | Path, settings: ReadingSettings) -> Iterator[ImageInParts]:
    """Opens a TIFF of any size.

    Raises:
        ConfigError: the package that reads it is not installed.
        DataError: it is damaged, of a kind that is not read, or lies in one piece that is too large itself.
    """
    try:
        import tifffile
    except ImportError as error:
        raise ConfigError(
            f"image {path} has more than dataset.max_megapixels={settings.max_megapixels:g}: to predict it in parts, "
            "pip install 'segnext-jittor[tiff]'"
        ) from error
    header = read_header(path, ReadingSettings(max_megapixels=math.inf))
    refuse_extra_bands(header, path)
    if header.orientation not in (None, 1):
        raise DataError(f"image {path} is to be turned (orientation {header.orientation}): save it upright")
    with contextlib.ExitStack() as stack:
        with as_data_error("image", path, b"?"):
            parts = ImageInParts(path, stack.enter_context(tifffile.TiffFile(path)), settings)
        yield parts
