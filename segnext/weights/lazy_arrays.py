"""Arrays as files describe them: shape and number format at once, the numbers when asked for.

These classes are what a pickle builds instead of NumPy's and PyTorch's own. Their ``__setstate__`` is what a pickle
calls to change an object it has built; each checks what it is given or refuses.
"""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from segnext.errors import WeightsError

__all__ = [
    "BFLOAT16",
    "STORAGES",
    "DType",
    "NumPyArray",
    "Storage",
    "StorageReader",
    "StorageType",
    "StoredArray",
    "Tensor",
    "checked_shape",
    "checked_size",
    "refusal",
    "widen_bfloat16",
]

Array = npt.NDArray[Any]
StorageReader = Callable[[str, np.dtype[Any], int], Array]
"""Reads a PyTorch storage: (key, dtype, number of elements) -> one-dimensional array."""

_LARGEST = 2**63
_MOST_DIMENSIONS = 32  # NumPy's limit

_NUMERIC = re.compile(r"[biufc]\d{1,2}")
_TEXT = re.compile(r"[SU]\d{1,6}")

# Names of PyTorch's storage classes and how their elements are stored; bfloat16 has no NumPy type of its own.
BFLOAT16: np.dtype[Any] = np.dtype("V2")
STORAGES: dict[str, np.dtype[Any]] = {
    "FloatStorage": np.dtype("f4"),
    "DoubleStorage": np.dtype("f8"),
    "HalfStorage": np.dtype("f2"),
    "BFloat16Storage": BFLOAT16,
    "LongStorage": np.dtype("i8"),
    "IntStorage": np.dtype("i4"),
    "ShortStorage": np.dtype("i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}


@dataclass(frozen=True)
class StoredArray:
    """An array described in a file, its numbers not yet read.

    Attributes:
        shape: of the array; ``()`` for a scalar.
        dtype: NumPy name of the element type, or ``bfloat16``.
        expanded: whether the file holds fewer numbers, which the array repeats (stride 0 in PyTorch).
        read: returns the array, C-contiguous and owning its memory; bfloat16 comes widened to float32, exactly.
    """

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], Array]
    expanded: bool = False


def widen_bfloat16(bits: Array) -> Array:
    """Returns float32 numbers of the bfloat16 numbers whose bits are given as uint16: the upper half, exactly."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def refusal(what: str) -> WeightsError:
    """The error for something that no weights file needs."""
    return WeightsError(
        f"refused to build {what}: a weights file may hold arrays, dicts, numbers and strings, nothing else. "
        "Nothing was executed. If you trust its source, save the bare state dict there and load that"
    )


class DType:
    """A NumPy dtype; only numbers and strings exist, objects and records do not."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any) -> None:
        if not isinstance(code, str) or not (_NUMERIC.fullmatch(code) or _TEXT.fullmatch(code)):
            raise refusal(f"numpy.dtype({reprlib.repr(code)})")
        self.code = code
        self.order = "="

    def __setstate__(self, state: Any) -> None:
        # (version, byte order, subarray, names, fields, size, alignment, flags[, metadata])
        if not isinstance(state, tuple) or len(state) < 5 or state[1] not in ("<", ">", "|", "="):
            raise refusal("a numpy.dtype of unknown form")
        if any(part is not None for part in state[2:5]):
            raise refusal("a numpy.dtype with fields")
        self.order = state[1]

    def resolve(self) -> np.dtype[Any]:
        return np.dtype(self.code).newbyteorder(self.order)  # type: ignore[arg-type]


class NumPyArray:
    """A NumPy array under construction."""

    __slots__ = ("dtype", "fortran", "raw", "shape")

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = (0,)
        self.dtype: np.dtype[Any] = np.dtype("u1")
        self.fortran = False
        self.raw: bytes | bytearray = b""

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise refusal("a numpy.ndarray of unknown form")
        _version, shape, dtype, fortran, raw = state
        self.fill(raw, dtype, shape, "F" if fortran else "C")

    def fill(self, raw: Any, dtype: Any, shape: Any, order: Any) -> None:
        if not isinstance(dtype, DType) or not isinstance(raw, (bytes, bytearray)):
            raise refusal("a numpy.ndarray of objects")
        self.shape = checked_shape(shape)
        self.dtype = dtype.resolve()
        self.fortran = order == "F"
        self.raw = raw
        if len(raw) != math.prod(self.shape) * self.dtype.itemsize:
            raise WeightsError(f"is damaged: an array of shape {self.shape} holds {len(raw)} bytes")

    def read(self) -> Array:
        flat = np.frombuffer(self.raw, self.dtype)
        array = flat.reshape(self.shape, order="F" if self.fortran else "C")
        return np.array(array, dtype=self.dtype.newbyteorder("="), order="C")


@dataclass(frozen=True)
class StorageType:
    """PyTorch's FloatStorage and the like, as far as it tells the number format."""

    __slots__ = ("dtype",)
    dtype: np.dtype[Any]

    def __setstate__(self, state: Any) -> None:
        raise refusal("a change of a storage type")


@dataclass(frozen=True)
class Storage:
    """The memory behind PyTorch tensors: where it lies in the file and how to read it."""

    __slots__ = ("dtype", "elements", "key", "reader")
    key: str
    dtype: np.dtype[Any]
    elements: int
    reader: StorageReader

    def __setstate__(self, state: Any) -> None:
        raise refusal("a change of a storage")


@dataclass(frozen=True)
class Tensor:
    """A PyTorch tensor: a strided view of a storage, all in elements."""

    __slots__ = ("offset", "shape", "storage", "stride")
    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def __setstate__(self, state: Any) -> None:
        pass

    @property
    def expanded(self) -> bool:
        """Whether several elements are one number in the storage."""
        return any(step == 0 and n > 1 for n, step in zip(self.shape, self.stride, strict=True))

    def read(self) -> Array:
        flat = self.storage.reader(self.storage.key, self.storage.dtype, self.storage.elements)
        if math.prod(self.shape) == 0:
            view = np.zeros(self.shape, flat.dtype)
        else:
            size = flat.dtype.itemsize
            view = np.lib.stride_tricks.as_strided(
                flat[self.offset :], self.shape, tuple(step * size for step in self.stride), writeable=False
            )
        array = np.array(view, order="C")  # not ascontiguousarray, which makes a vector of a scalar
        return widen_bfloat16(array.view(np.uint16)) if array.dtype == BFLOAT16 else array


def checked_size(value: Any) -> int:
    """Returns ``value`` if it is a whole number from 0 to 2⁶³ - 1; WeightsError otherwise."""
    if not isinstance(value, int) or not 0 <= value < _LARGEST:
        raise WeightsError(f"is damaged: {reprlib.repr(value)} stands where a size belongs")
    return value


def checked_shape(values: Any) -> tuple[int, ...]:
    """Returns a shape or strides as a tuple; WeightsError unless all are whole numbers from 0, and not too many."""
    if not isinstance(values, (tuple, list)) or len(values) > _MOST_DIMENSIONS:
        raise WeightsError(f"is damaged: {reprlib.repr(values)} stands where a shape belongs")
    return tuple(checked_size(value) for value in values)
