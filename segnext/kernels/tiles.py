"""How CUDA kernels of depthwise convolutions cut maps (B,C,H,W) into square tiles, as ``tiles_cuda.h`` sees them."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["shares", "side"]

_BLOCKS = 1024  # enough to keep every multiprocessor of a large GPU busy


def side(shape: Sequence[int]) -> int:
    """Pixels of a side of a tile: small for the small planes of the last stages."""
    return 16 if min(shape[2:]) <= 16 else 32


def shares(shape: Sequence[int]) -> int:
    """How many blocks share a channel's tiles in the weight gradient; depends on the shape alone, as sums do on it."""
    batch, channels, height, width = shape
    pieces = batch * -(-height // side(shape)) * -(-width // side(shape))
    return max(1, min(pieces, -(-_BLOCKS // channels)))
