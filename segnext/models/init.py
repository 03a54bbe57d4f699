"""Initial weights of a SegNeXt that is trained from scratch, as the official implementation draws them."""

from __future__ import annotations

import math
import zlib

import numpy as np
from numpy.typing import NDArray

__all__ = ["initial_value"]

Array = NDArray[np.float32]


def initial_value(name: str, shape: tuple[int, ...], *, seed: int) -> Array | None:
    """The initial value of the tensor with the official ``name``, or None where the layer's own (0 or 1) is right.

    Convolutions are normal with variance 2/fan_out, where fan_out = kh·kw·C_out/groups, the classifier has standard
    deviation 0.01; biases are 0. The draw depends on ``seed`` and ``name`` alone.
    """
    if name.endswith(".bias"):
        return np.zeros(shape, np.float32)
    if len(shape) != 4:
        return None
    channels_out, _, kh, kw = shape
    groups = channels_out if _is_depthwise(name) else 1
    std = 0.01 if name == "decode_head.conv_seg.weight" else math.sqrt(2 / (kh * kw * channels_out / groups))
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    return rng.standard_normal(shape, dtype=np.float32) * np.float32(std)


def _is_depthwise(name: str) -> bool:
    return ".dwconv." in name or (".spatial_gating_unit." in name and ".conv3." not in name)
