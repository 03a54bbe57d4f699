"""Full-resolution scores from stride-8 logits, one strip of rows at a time.

The official inference blows the logits up to the network's input size, adds up overlapping windows, and blows the
sum up again to the image's own size (mmsegmentation 0.24 ``encoder_decoder.py``). For 150 classes and a large image
these maps take gigabytes. Here only the stride-8 logits of the windows are kept, and every strip of the result is
computed from them when it is wanted: the same arithmetic pixel by pixel, in memory bounded by the strip.

Legend: C classes, H W height and width in pixels, lower case h w at stride 8.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segnext import backend
from segnext.backend import jt

__all__ = ["DenseLogits", "Taps", "bilinear_taps", "strips"]


@dataclass(frozen=True)
class Taps:
    """The two source positions and the weight of the second one, for each output position along one axis."""

    first: NDArray[np.int32]
    second: NDArray[np.int32]
    weight: NDArray[np.float32]

    @property
    def source(self) -> tuple[int, int]:
        """The half-open range of source positions that are read."""
        return int(self.first.min()), int(self.second.max()) + 1


def bilinear_taps(source: int, target: int, *, start: int = 0, stop: int | None = None) -> Taps:
    """Taps of output positions ``start`` … ``stop`` - 1 when ``source`` samples become ``target`` samples.

    Half-pixel centres (``align_corners=False``): position = (i + 0.5)·source/target - 0.5, clamped to the samples.
    """
    index = np.arange(start, target if stop is None else stop)
    position = np.clip((index + 0.5) * (source / target) - 0.5, 0, source - 1)
    first = np.floor(position).astype(np.int32)
    second = np.minimum(first + 1, source - 1).astype(np.int32)
    return Taps(first, second, (position - first).astype(np.float32))


@dataclass
class DenseLogits:
    """Logits of one network input, held as the stride-8 logits of the windows that cover it.

    Attributes:
        height, width: size of the network input in pixels.
        window: (height, width) of every window in pixels; the whole input in whole mode.
        parts: (top, left, logits (C, h, w)) of every window.
        flipped: the input was mirrored left to right; the result is mirrored back.
    """

    height: int
    width: int
    window: tuple[int, int]
    flipped: bool = False
    parts: list[tuple[int, int, Any]] = field(default_factory=list)

    def rows(self, start: int, stop: int) -> Any:
        """(C, stop - start, W) logits at network-input size: mean of the overlapping windows."""
        window_height, window_width = self.window
        covering = [part for part in self.parts if part[0] < stop and part[0] + window_height > start]
        if self.window == (self.height, self.width):
            return _resized(covering[0][2], self.window, start, stop)
        total = jt.zeros((covering[0][2].shape[0], stop - start, self.width))
        hits = np.zeros((1, stop - start, self.width), np.float32)
        for top, left, logits in covering:
            first, last = max(start, top), min(stop, top + window_height)
            piece = _resized(logits, self.window, first - top, last - top)
            y, x = slice(first - start, last - start), slice(left, left + window_width)
            total[:, y, x] += piece
            hits[:, y, x] += 1
        return total / jt.array(hits)

    def strip(self, size: tuple[int, int], start: int, stop: int) -> Any:
        """(C, stop - start, W) logits of rows ``start`` … of the result of ``size`` = (height, width)."""
        height, width = size
        if size == (self.height, self.width):
            strip = self.rows(start, stop)
            return _take_columns(strip, np.arange(width, dtype=np.int32)[::-1]) if self.flipped else strip
        taps = bilinear_taps(self.height, height, start=start, stop=stop)
        low, high = taps.source
        rows = _interpolate_rows(self.rows(low, high), taps, offset=low)
        columns = bilinear_taps(self.width, width)
        if self.flipped:
            columns = Taps(columns.first[::-1], columns.second[::-1], columns.weight[::-1])
        return _interpolate_columns(rows, columns)


def strips(height: int, rows: int) -> Iterator[tuple[int, int]]:
    """Half-open ranges of at most ``rows`` rows that cover ``height``."""
    for start in range(0, height, rows):
        yield start, min(start + rows, height)


def _resized(x_Chw: Any, size: tuple[int, int], start: int, stop: int) -> Any:
    """Rows ``start`` … ``stop`` - 1 of the logits resized bilinearly to ``size``."""
    _, height, width = x_Chw.shape
    rows = _interpolate_rows(x_Chw, bilinear_taps(height, size[0], start=start, stop=stop))
    return _interpolate_columns(rows, bilinear_taps(width, size[1]))


def _interpolate_rows(x_CHW: Any, taps: Taps, *, offset: int = 0) -> Any:
    first, second = (_take_rows(x_CHW, position - offset) for position in (taps.first, taps.second))
    weight = backend.start().array(taps.weight).reshape((1, -1, 1))
    return first * (1 - weight) + second * weight


def _interpolate_columns(x_CHW: Any, taps: Taps) -> Any:
    first, second = (_take_columns(x_CHW, position) for position in (taps.first, taps.second))
    weight = backend.start().array(np.ascontiguousarray(taps.weight)).reshape((1, 1, -1))
    return first * (1 - weight) + second * weight


def _take_rows(x_CHW: Any, index: NDArray[np.int32]) -> Any:
    # reindex, unlike indexing, is fused with the arithmetic around it; positions are data, so that another
    # image size compiles nothing anew.
    channels, _, width = x_CHW.shape
    extras = [backend.start().array(index)]
    return x_CHW.reindex([channels, len(index), width], ["i0", "@e0(i1)", "i2"], extras=extras)


def _take_columns(x_CHW: Any, index: NDArray[np.int32]) -> Any:
    channels, height, _ = x_CHW.shape
    extras = [backend.start().array(np.ascontiguousarray(index))]
    return x_CHW.reindex([channels, height, len(index)], ["i0", "i1", "@e0(i2)"], extras=extras)
