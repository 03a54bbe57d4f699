"""Datasets and transforms with a will of their own, for the loader's tests; in a module that workers can import."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass

import numpy as np

from segnext.data.classes import SHAPES, ClassTable
from segnext.data.datasets import Sample
from segnext.errors import DataError


@dataclass(frozen=True)
class Numbered:
    """Sample i is filled with the colour i and the label 0; some samples misbehave."""

    length: int
    size: tuple[int, int] = (32, 32)
    broken: tuple[int, ...] = ()
    buggy: tuple[int, ...] = ()
    deadly: tuple[int, ...] = ()
    stuck: tuple[int, ...] = ()

    @property
    def classes(self) -> ClassTable:
        return SHAPES

    def __len__(self) -> int:
        return self.length

    def name(self, index: int) -> str:
        return f"number {index}"

    def read(self, index: int) -> Sample:
        if index in self.broken:
            raise DataError(f"image /photos/{index}.jpg cannot be decoded")
        if index in self.buggy:
            raise ZeroDivisionError(f"a bug at {index}")
        if index in self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        while index in self.stuck:
            signal.pause()
        return Sample(np.full((*self.size, 3), index % 256, np.uint8), np.zeros(self.size, np.uint8))


@dataclass(frozen=True)
class Imports(Numbered):
    """The label tells whether the reading process has imported anything heavy."""

    def read(self, index: int) -> Sample:
        heavy = {"jittor", "torch", "hydra", "wandb", "matplotlib", "rich"} & set(sys.modules)
        return Sample(np.zeros((*self.size, 3), np.uint8), np.full(self.size, len(heavy), np.uint8))
