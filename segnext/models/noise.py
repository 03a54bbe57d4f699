"""The random draws of a forward pass as functions of one seed per image.

Drop path, dropout and the NMF's bases draw from here and nowhere else. Equal seeds give equal draws whatever the batch
an image stands in, the number of processes, the device or the history of the run.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from segnext.errors import SegNeXtError

__all__ = ["Noise", "Seed"]

Seed = int | tuple[int, ...]


class Noise:
    """One stream of random numbers per image of the batch.

    Without seeds, evaluation mode draws as if every image had seed 0, and training mode takes fresh seeds from NumPy's
    global generator.
    """

    def __init__(self) -> None:
        self._seeds: tuple[Seed, ...] | None = None
        self._streams: list[np.random.Generator] = []

    def seed(self, seeds: Sequence[Seed] | None) -> None:
        """Sets the seeds (non-negative integers, or tuples of them) of the coming forward passes, one per image."""
        self._seeds = None if seeds is None else tuple(seeds)

    def start(self, batch: int, *, training: bool) -> None:
        """Begins the streams of a forward pass over ``batch`` images."""
        if self._seeds is not None and len(self._seeds) != batch:
            raise SegNeXtError(f"{len(self._seeds)} seeds for a batch of {batch} images: pass one seed per image")
        seeds: Sequence[Seed]
        if self._seeds is not None:
            seeds = self._seeds
        elif training:
            seeds = [int(s) for s in np.random.randint(2**31, size=batch)]  # noqa: NPY002
        else:
            seeds = [0] * batch
        self._streams = [np.random.default_rng(seed) for seed in seeds]

    def uniform(self, *shape: int) -> NDArray[np.float32]:
        """(B, *shape) float32 in [0,1), the next numbers of every image's stream."""
        return np.stack([stream.random(shape, dtype=np.float32) for stream in self._streams])

    def bases(self, dim: int, rank: int) -> NDArray[np.float32]:
        """(B, dim, rank) ≥ 0 with columns of unit length: where the factorisation of every image starts."""
        drawn = self.uniform(dim, rank)
        unit: NDArray[np.float32] = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
        return unit
