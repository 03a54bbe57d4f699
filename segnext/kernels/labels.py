"""Labels of a whole image from the stride-8 logits of the network's passes over it, without scores at full size.

Resizing, averaging of windows, softmax, mirroring back and the choice of the best class are one operator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segnext.backend import Var, jt
from segnext.kernels.sampling import Taps, bilinear_taps

__all__ = ["MOST_WINDOWS", "View", "labels"]

MOST_WINDOWS = 128  # of all views together, on CUDA
_WINDOWS = (1, 16, MOST_WINDOWS)  # of an operator: another number of arrays would be compiled anew
_NORMALISERS = 2**24  # held at a time

_CPU_HEADER, _CUDA_HEADER = (
    "".join(Path(__file__).with_name(name).read_text(encoding="utf-8") for name in names)
    for names in (
        ("product_cpu.h", "each.h", "functions.h", "taps.h", "views.h", "labels_cpu.h"),
        ("each.h", "taps.h", "views.h", "labels_cuda.h"),
    )
)
_CPU_SOURCE = "segnext::labels(in2_p, segnext::Plan(in0_p, in1_p), out0_p);\n"
_CUDA_SOURCE = """
const segnext::Image<COUNT> image{{WINDOWS}, in0_p, in1_p};
segnext::labels(image, out0_p, out1_p, (int)out1_shape0, out0->num, out1_shape1);
"""


@dataclass(frozen=True)
class View:
    """What one pass of the network saw of an image.

    Attributes:
        logits: (C, h, w) float32 of every window.
        corners: top and left of every window in the network's input, pixels.
        window, size: (height, width) of every window and of the network's input, pixels.
        flipped: the input was mirrored left to right.
    """

    logits: Sequence[Var]
    corners: Sequence[tuple[int, int]]
    window: tuple[int, int]
    size: tuple[int, int]
    flipped: bool = False

    def axes(self, size: tuple[int, int]) -> list[Taps]:
        """From stride 8 to the windows and, where that is something else, from the network's input to the image."""
        axes = [bilinear_taps(*lengths) for lengths in zip(self.logits[0].shape[1:], self.window, strict=True)]
        if size == self.size and not self.flipped:
            return axes
        rows, columns = (bilinear_taps(*lengths) for lengths in zip(self.size, size, strict=True))
        return [*axes, rows, columns.mirrored() if self.flipped else columns]


def labels(views: Sequence[View], size: tuple[int, int]) -> NDArray[np.int32]:
    """The best class of every pixel of an image of ``size`` = (height, width); the first one where several are best.

    By the logits of a single view, or by the probabilities of several, added up. On CUDA of at most ``MOST_WINDOWS``
    windows.
    """
    plan: list[int | NDArray[np.int32]] = [len(views), views[0].logits[0].shape[0], *size]
    weights = []
    for view in views:
        axes = view.axes(size)
        plan += [len(view.logits), *view.logits[0].shape[1:], *view.window, *view.size, int(len(axes) > 2)]
        plan += [np.ravel(view.corners)]
        plan += [positions for taps in axes for positions in (taps.first, taps.second)]
        weights += [taps.weight for taps in axes]
    numbers = np.concatenate([np.atleast_1d(part) for part in plan]).astype(np.int32)
    where = [jt.array(numbers), jt.array(np.concatenate(weights))]
    logits = [window for view in views for window in view.logits]
    best = _on_cuda(where, logits, len(views), size) if jt.flags.use_cuda else _on_cpu(where, logits, size)
    result: NDArray[np.int32] = best.numpy()
    return result


def _on_cpu(where: list[Var], logits: list[Var], size: tuple[int, int]) -> Var:
    inputs = [*where, jt.array(np.concatenate([window.numpy().ravel() for window in logits]))]
    return jt.code(size, "int32", inputs, cpu_header=_CPU_HEADER, cpu_src=_CPU_SOURCE)


def _on_cuda(where: list[Var], logits: list[Var], views: int, size: tuple[int, int]) -> Var:
    count = next(count for count in _WINDOWS if count >= len(logits))
    inputs = [*where, *logits, *[logits[0]] * (count - len(logits))]
    windows = ", ".join(f"in{2 + i}_p" for i in range(count))
    source = _CUDA_SOURCE.replace("COUNT", str(count)).replace("WINDOWS", windows)
    at_a_time = min(size[0] * size[1], _NORMALISERS // views) if views > 1 else 1
    shapes = [size, (views, at_a_time)]
    return jt.code(shapes, ["int32", "float32"], inputs, cuda_header=_CUDA_HEADER, cuda_src=source)[0]
