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

from segnext.evaluation.arrays import Arrays, JittorArrays
from segnext.kernels.labels import View
from segnext.kernels.sampling import bilinear_taps

__all__ = ["DenseLogits", "strips"]


@dataclass
class DenseLogits:
    """Logits of one network input, held as the stride-8 logits of the windows that cover it.

    Attributes:
        height, width: size of the network input in pixels.
        window: (height, width) of every window in pixels; the whole input in whole mode.
        parts: (top, left, logits (C, h, w)) of every window.
        flipped: the input was mirrored left to right; the result is mirrored back.
        arrays: the operations on the logits.
    """

    height: int
    width: int
    window: tuple[int, int]
    flipped: bool = False
    parts: list[tuple[int, int, Any]] = field(default_factory=list)
    arrays: Arrays = field(default_factory=JittorArrays)

    def view(self) -> View:
        """All of it, for ``kernels.labels``."""
        logits = [part[2] for part in self.parts]
        corners = [part[:2] for part in self.parts]
        return View(logits, corners, self.window, (self.height, self.width), self.flipped)

    def rows(self, start: int, stop: int) -> Any:
        """(C, stop - start, W) logits at network-input size: mean of the overlapping windows."""
        window_height, window_width = self.window
        covering = [part for part in self.parts if part[0] < stop and part[0] + window_height > start]
        if self.window == (self.height, self.width):
            return self._resized(covering[0][2], start, stop)
        total = self.arrays.zeros((covering[0][2].shape[0], stop - start, self.width))
        hits = np.zeros((1, stop - start, self.width), np.float32)
        for top, left, logits in covering:
            first, last = max(start, top), min(stop, top + window_height)
            piece = self._resized(logits, first - top, last - top)
            y, x = slice(first - start, last - start), slice(left, left + window_width)
            total[:, y, x] += piece
            hits[:, y, x] += 1
        return total / self.arrays.constant(hits)

    def strip(self, size: tuple[int, int], start: int, stop: int) -> Any:
        """(C, stop - start, W) logits of rows ``start`` … of the result of ``size`` = (height, width)."""
        height, width = size
        if size == (self.height, self.width) and not self.flipped:
            return self.rows(start, stop)
        taps = bilinear_taps(self.height, height, start=start, stop=stop)
        low, high = taps.source
        return self.arrays.sample(self.rows(low, high), taps.shifted(low), width, flipped=self.flipped)

    def _resized(self, x_Chw: Any, start: int, stop: int) -> Any:
        """Rows ``start`` … ``stop`` - 1 of the logits resized bilinearly to the window."""
        height, width = self.window
        taps = bilinear_taps(x_Chw.shape[1], height, start=start, stop=stop)
        return self.arrays.sample(x_Chw, taps, width)


def strips(height: int, rows: int) -> Iterator[tuple[int, int]]:
    """Half-open ranges of at most ``rows`` rows that cover ``height``."""
    for start in range(0, height, rows):
        yield start, min(start + rows, height)
