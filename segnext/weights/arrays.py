"""A model's tensors without the model: what conversion and checking of weights fill."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["ArrayModel"]


class ArrayModel:
    """Named float32 arrays of given shapes, which ``load_weights`` fills and ``save_weights`` writes.

    ``arrays`` holds them by name once they were loaded; before, a name is absent.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.arrays: dict[str, npt.NDArray[np.float32]] = {}
        self._slots = {name: _Slot(name, tuple(shape), self.arrays) for name, shape in shapes.items()}

    def tensors(self) -> dict[str, Any]:
        """Returns official name -> slot with ``shape``, ``dtype`` and ``assign``, like a model's variables."""
        return dict(self._slots)


class _Slot:
    dtype = "float32"

    def __init__(self, name: str, shape: tuple[int, ...], arrays: dict[str, npt.NDArray[np.float32]]) -> None:
        self.shape = shape
        self._name = name
        self._arrays = arrays

    def assign(self, array: npt.NDArray[np.float32]) -> None:
        self._arrays[self._name] = array
