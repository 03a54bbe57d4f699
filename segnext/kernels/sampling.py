"""From stride-8 logits to labels: a part of a bilinear resize, row by row, and the best class of every pixel.

No gradient. Positions and weights are data, so that another image size compiles nothing anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segnext.backend import Var, jt

__all__ = ["Taps", "best_channel", "best_channel_reference", "bilinear_taps", "sample", "sample_reference"]

_HEADER = "".join(Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("taps.h", "sampling_cpu.h"))
_SAMPLE = """
const segnext::Taps rows{in1_p, in1_p + in1_shape1, in2_p, (ptrdiff_t)in1_shape1};
const segnext::Taps columns{in3_p, in3_p + in3_shape1, in4_p, (ptrdiff_t)in3_shape1};
segnext::sample(in0_p, out0_p, in0_shape0, in0_shape1, in0_shape2, rows, columns);
"""
_BEST = "segnext::best_channel(in0_p, out0_p, in0_shape0, in0_shape1 * in0_shape2);\n"


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

    def shifted(self, by: int) -> Taps:
        """The same positions counted from ``by`` on."""
        return Taps(self.first - by, self.second - by, self.weight)

    def mirrored(self) -> Taps:
        """The outputs in the opposite order."""
        return Taps(self.first[::-1], self.second[::-1], self.weight[::-1])


def bilinear_taps(source: int, target: int, *, start: int = 0, stop: int | None = None) -> Taps:
    """Taps of output positions ``start`` … ``stop`` - 1 when ``source`` samples become ``target`` samples.

    Half-pixel centres (``align_corners=False``): position = (i + 0.5)·source/target - 0.5, clamped to the samples.
    """
    index = np.arange(start, target if stop is None else stop)
    position = np.clip((index + 0.5) * (source / target) - 0.5, 0, source - 1)
    first = np.floor(position).astype(np.int32)
    second = np.minimum(first + 1, source - 1).astype(np.int32)
    return Taps(first, second, (position - first).astype(np.float32))


def sample(x_CHW: Var, rows: Taps, columns: Taps) -> Var:
    """Blends the rows that ``rows`` names, then their columns: (C, rows, columns) float32."""
    if jt.flags.use_cuda:
        return sample_reference(x_CHW, rows, columns)
    inputs = [x_CHW]
    for taps in (rows, columns):
        inputs += [jt.array(np.stack([taps.first, taps.second])), jt.array(np.ascontiguousarray(taps.weight))]
    shape = [x_CHW.shape[0], len(rows.first), len(columns.first)]
    return jt.code(shape, "float32", inputs, cpu_header=_HEADER, cpu_src=_SAMPLE)


def sample_reference(x_CHW: Var, rows: Taps, columns: Taps) -> Var:
    """The same in plain Jittor: what the kernel is tested against."""
    channels, _, width = x_CHW.shape

    def take(x: Var, positions: NDArray[np.int32], shape: list[int], indices: list[str]) -> Var:
        return x.reindex(shape, indices, extras=[jt.array(np.ascontiguousarray(positions))])  # fused with the blending

    low, high = (
        take(x_CHW, positions, [channels, len(positions), width], ["i0", "@e0(i1)", "i2"])
        for positions in (rows.first, rows.second)
    )
    weight = jt.array(rows.weight).reshape((1, -1, 1))
    blended = low * (1 - weight) + high * weight
    low, high = (
        take(blended, positions, [channels, len(rows.first), len(positions)], ["i0", "i1", "@e0(i2)"])
        for positions in (columns.first, columns.second)
    )
    weight = jt.array(np.ascontiguousarray(columns.weight)).reshape((1, 1, -1))
    return low * (1 - weight) + high * weight


def best_channel(x_CHW: Var) -> Var:
    """The first of the channels with the largest value: (H,W) int32."""
    if jt.flags.use_cuda:
        return best_channel_reference(x_CHW)
    return jt.code(x_CHW.shape[1:], "int32", [x_CHW], cpu_header=_HEADER, cpu_src=_BEST)


def best_channel_reference(x_CHW: Var) -> Var:
    """The same in plain Jittor: what the kernel is tested against.

    By comparisons with the largest value, since Jittor's argmax over a first axis runs on the host.
    """
    shape = list(x_CHW.shape)
    is_best = x_CHW == x_CHW.max(0, keepdims=True).broadcast(x_CHW)
    channel = jt.where(is_best, jt.index(shape, 0), jt.array(np.int32(shape[0])).broadcast(shape))
    return channel.min(0)
