"""Labels of a whole image from the stride-8 logits of the network's passes over it, without scores at full size.

On the CPU, resizing, averaging of windows, softmax, mirroring back and the choice of the best class are one operator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segnext.backend import jt
from segnext.kernels.sampling import Taps, bilinear_taps

__all__ = ["View", "labels"]

_HEADER = "".join(
    Path(__file__).with_name(name).read_text(encoding="utf-8")
    for name in ("product_cpu.h", "each.h", "functions.h", "sampling_cpu.h", "labels_cpu.h")
)
_SOURCE = "segnext::labels(in0_p, in1_p, in2_p, out0_p, (int)out0_shape0, (int)out0_shape1);\n"


@dataclass(frozen=True)
class View:
    """What one pass of the network saw of an image.

    Attributes:
        logits: (windows, C, h, w) float32.
        corners: top and left of every window in the network's input, pixels.
        window, size: (height, width) of every window and of the network's input, pixels.
        flipped: the input was mirrored left to right.
    """

    logits: NDArray[np.float32]
    corners: Sequence[tuple[int, int]]
    window: tuple[int, int]
    size: tuple[int, int]
    flipped: bool = False

    def axes(self, size: tuple[int, int]) -> list[Taps]:
        """From stride 8 to the windows and, where that is something else, from the network's input to the image."""
        axes = [bilinear_taps(*lengths) for lengths in zip(self.logits.shape[2:], self.window, strict=True)]
        if size == self.size and not self.flipped:
            return axes
        rows, columns = (bilinear_taps(*lengths) for lengths in zip(self.size, size, strict=True))
        return [*axes, rows, columns.mirrored() if self.flipped else columns]


def labels(views: Sequence[View], size: tuple[int, int]) -> NDArray[np.int32]:
    """The best class of every pixel of an image of ``size`` = (height, width); the first one where several are best.

    By the logits of a single view, or by the probabilities of several, added up. On the CPU alone.
    """
    plan: list[int | NDArray[np.int32]] = [len(views), views[0].logits.shape[1], *size]
    weights = []
    for view in views:
        windows, _, h, w = view.logits.shape
        axes = view.axes(size)
        plan += [windows, h, w, *view.window, *view.size, int(len(axes) > 2), np.ravel(view.corners)]
        plan += [positions for taps in axes for positions in (taps.first, taps.second)]
        weights += [taps.weight for taps in axes]
    numbers = np.concatenate([np.atleast_1d(part) for part in plan]).astype(np.int32)
    inputs = [np.concatenate([view.logits.ravel() for view in views]), numbers, np.concatenate(weights)]
    best = jt.code(size, "int32", [jt.array(each) for each in inputs], cpu_header=_HEADER, cpu_src=_SOURCE)
    result: NDArray[np.int32] = best.numpy()
    return result
