"""Reads pickles without trusting them: arrays, containers, numbers and strings can be built, nothing else.

A pickle is a program that may call any function it can name. Here a name never leads to the real thing: the few
names that weights files need resolve to functions of ``pickle_names.py``, which check their arguments and build plain
data or the descriptions of ``lazy_arrays.py``; every other name is refused before anything was called. The numbers of
arrays are read when asked for, so that the optimizer state in a training checkpoint costs nothing.

Time and memory are bounded by the size of the file: keys are plain (hashing a tuple of tuples of tuples … takes
for ever), a call may copy what the file holds but not a thousand times, and the number of opcodes has a limit. That is
why the standard library's unpickler in Python is the base: the one in C gives no way in.
"""

from __future__ import annotations

import io
import pickle
import reprlib
from collections.abc import Callable
from typing import IO, Any

from segnext.errors import WeightsError
from segnext.weights.lazy_arrays import (
    BFLOAT16,
    NumPyArray,
    Storage,
    StorageReader,
    StorageType,
    StoredArray,
    Tensor,
    checked_size,
)
from segnext.weights.pickle_names import check_key, resolve_name

__all__ = ["DataUnpickler"]

_MOST_OPCODES = 5_000_000  # a checkpoint has 10,000 to 100,000; two seconds

_Unpickler: Any = pickle._Unpickler


class DataUnpickler(_Unpickler):
    """Unpickles one object that consists of data.

    NumPy arrays and PyTorch tensors come as ``StoredArray``, PyTorch dtypes and devices as strings; objects of
    a few known harmless kinds (dates, paths, logging histories) as an empty ``Opaque``.

    ``storage_sizes`` holds, after loading, the bytes per element of every PyTorch storage met, by its key.
    """

    def __init__(self, file: IO[bytes], *, origin: str, read_storage: StorageReader | None = None) -> None:
        source = _Source(file)
        super().__init__(source)
        self.dispatch = _CountedOpcodes(_OPCODES)
        self._may_copy = 2 * source.left + 1_000_000
        self._origin = origin
        self._read_storage = read_storage
        self.storage_sizes: dict[str, int] = {}

    def load(self) -> Any:
        """Returns the object; raises WeightsError naming the file for anything unsafe or damaged."""
        try:
            return _finish(super().load(), {})
        except WeightsError as error:
            raise WeightsError(f"{self._origin}: {error}") from error
        except Exception as error:  # a damaged pickle may raise nearly anything
            raise WeightsError(
                f"{self._origin} is damaged or not a weights file ({type(error).__name__}: {error}); "
                "delete it and get it again"
            ) from error

    def find_class(self, module: str, name: str) -> Any:
        return resolve_name(module, name, self._spend)

    def _spend(self, size: int) -> None:
        """Counts what calls copy; raises WeightsError when it is far more than the file holds."""
        self._may_copy -= size
        if self._may_copy < 0:
            raise WeightsError("is damaged: it copies the same data again and again")

    def persistent_load(self, pid: Any) -> Storage:
        if self._read_storage is None or not isinstance(pid, tuple) or len(pid) not in (5, 6):
            raise WeightsError("refers to data outside of itself, which no known format does")
        kind, storage_type, key, _location, elements = pid[:5]
        view = pid[5] if len(pid) == 6 else None
        plain_key = isinstance(key, (str, int))
        if kind != "storage" or not isinstance(storage_type, StorageType) or view is not None or not plain_key:
            raise WeightsError(
                f"holds a storage of an unknown kind ({reprlib.repr(kind)}); save it again with PyTorch 1.6 or later"
            )
        self.storage_sizes[str(key)] = storage_type.dtype.itemsize
        return Storage(str(key), storage_type.dtype, checked_size(elements), self._read_storage)


class _Source:
    """A file that gives exactly what is asked for, and never reserves memory for more than there is."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        start = file.tell()
        self.left = file.seek(0, io.SEEK_END) - start
        file.seek(start)

    def read(self, size: int) -> bytes:
        if size > self.left:
            raise EOFError("it ends too early")
        self.left -= size
        return self._file.read(size)

    def readline(self) -> bytes:
        line = self._file.readline()
        self.left -= len(line)
        return line


class _CountedOpcodes(dict[int, Callable[[Any], None]]):
    """The methods by opcode; raises WeightsError when too many were looked up."""

    left = _MOST_OPCODES

    def __getitem__(self, opcode: int) -> Callable[[Any], None]:
        self.left -= 1
        if self.left < 0:
            raise WeightsError(f"has more than {_MOST_OPCODES:,} instructions, a weights file has some thousands")
        return super().__getitem__(opcode)


def _with_plain_keys(original: Callable[[Any], None], step: int) -> Callable[[Any], None]:
    """An opcode that hashes every ``step``-th object since the mark, which are looked at before."""

    def checked(unpickler: Any) -> None:
        for key in unpickler.stack[::step]:  # the objects since the mark are a stack of their own
            check_key(key)
        original(unpickler)

    return checked


def _set_item(unpickler: Any) -> None:
    check_key(unpickler.stack[-2])
    _Unpickler.load_setitem(unpickler)


def _load_bytearray(unpickler: Any) -> None:
    size = int.from_bytes(unpickler.read(8), "little")
    unpickler.append(bytearray(unpickler.read(size)))


_OPCODES = _Unpickler.dispatch | {
    pickle.SETITEM[0]: _set_item,
    pickle.SETITEMS[0]: _with_plain_keys(_Unpickler.load_setitems, 2),
    pickle.DICT[0]: _with_plain_keys(_Unpickler.load_dict, 2),
    pickle.ADDITEMS[0]: _with_plain_keys(_Unpickler.load_additems, 1),
    pickle.FROZENSET[0]: _with_plain_keys(_Unpickler.load_frozenset, 1),
    pickle.BYTEARRAY8[0]: _load_bytearray,
}


def _finish(node: Any, done: dict[int, Any]) -> Any:
    """Replaces arrays under construction by StoredArray; ``done`` keeps shared and cyclic parts finite."""
    if id(node) in done:
        return done[id(node)]
    if isinstance(node, dict):
        result: dict[Any, Any] = {}
        done[id(node)] = result
        result.update((key, _finish(value, done)) for key, value in dict.items(node))
        return result
    if isinstance(node, list):
        items: list[Any] = []
        done[id(node)] = items
        items.extend(_finish(item, done) for item in node)
        return items
    if isinstance(node, tuple):
        done[id(node)] = finished = tuple(_finish(item, done) for item in node)
        return finished
    if isinstance(node, NumPyArray):
        return StoredArray(node.shape, node.dtype.name, node.read)
    if isinstance(node, Tensor):
        dtype = node.storage.dtype
        name = "bfloat16" if dtype == BFLOAT16 else dtype.name
        return StoredArray(node.shape, name, node.read, node.expanded)
    return node
