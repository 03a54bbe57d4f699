"""Reads pickles without trusting them: arrays, containers, numbers and strings can be built, nothing else.

A pickle is a program that may call any function it can name. Here a name never leads to the real thing: the few
names that weights files need resolve to functions of this module, which check their arguments and build plain data
or the descriptions of ``lazy_arrays.py``; every other name is refused before anything was called. The numbers of arrays
are read when asked for, so that the optimizer state in a training checkpoint costs nothing.

Time and memory are bounded by the size of the file: keys are plain (hashing a tuple of tuples of tuples … takes
for ever), a call may copy what the file holds but not a thousand times, and the number of opcodes has a limit. That is
why the standard library's unpickler in Python is the base: the one in C gives no way in.
"""

from __future__ import annotations

import io
import math
import pickle
import reprlib
from collections.abc import Callable, Sized
from typing import IO, Any

import numpy as np

from segnext.errors import WeightsError
from segnext.weights.lazy_arrays import (
    BFLOAT16,
    STORAGES,
    DType,
    NumPyArray,
    Storage,
    StorageReader,
    StorageType,
    StoredArray,
    Tensor,
    natural,
    naturals,
    refusal,
)

__all__ = ["DataUnpickler", "Opaque"]

_TORCH_DTYPES = frozenset(
    {"float16", "float32", "float64", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "bool"}
)


_MOST_OPCODES = 5_000_000  # a checkpoint has 10,000 to 100,000; two seconds
_MOST_PARTS = 16  # of a tuple that is a key
_LARGEST_KEY = 2**127

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
        if module == "torch":
            if name in STORAGES:
                return StorageType(STORAGES[name])
            if name in _TORCH_DTYPES:
                return f"torch.{name}"
        if (module, name) in _OPAQUE or (module == _HISTORY[0] and name.startswith(f"{_HISTORY[1]}.")):
            return Opaque  # a history refers to its own methods
        function = _FUNCTIONS.get((module, name))
        if function is None:
            raise refusal(f"{module}.{name}")
        return _Function(f"{module}.{name}", function, self._spend)

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
        return Storage(str(key), storage_type.dtype, natural(elements), self._read_storage)


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


def _check_key(key: Any) -> None:
    """Refuses keys whose hash takes long or recurses deeply."""
    parts = key if isinstance(key, tuple) else (key,)
    if len(parts) > _MOST_PARTS or not all(
        part is None or isinstance(part, (str, bytes, float)) or (isinstance(part, int) and abs(part) < _LARGEST_KEY)
        for part in parts
    ):
        raise refusal(f"a dict or set with a key like {reprlib.repr(key)}")


def _with_plain_keys(original: Callable[[Any], None], step: int) -> Callable[[Any], None]:
    """An opcode that hashes every ``step``-th object since the mark, which are looked at before."""

    def checked(unpickler: Any) -> None:
        for key in unpickler.stack[::step]:  # the objects since the mark are a stack of their own
            _check_key(key)
        original(unpickler)

    return checked


def _set_item(unpickler: Any) -> None:
    _check_key(unpickler.stack[-2])
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


class Opaque:
    """Stands for an object whose content does not matter here: swallows all, keeps nothing, can do nothing."""

    __slots__ = ()

    def __new__(cls, *args: Any, **kwargs: Any) -> Opaque:
        return object.__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        pass

    def extend(self, items: Any) -> None:
        pass


class _Function:
    """A name resolved for a pickle. Unlike a bare function it has no attributes that the pickle could change."""

    __slots__ = ("call", "name", "spend")

    def __init__(self, name: str, call: Callable[..., Any], spend: Callable[[int], None]) -> None:
        self.name = name
        self.call = call
        self.spend = spend

    def __call__(self, *args: Any) -> Any:
        self.spend(sum(len(arg) for arg in args if isinstance(arg, Sized)))
        return self.call(*args)

    def __setstate__(self, state: Any) -> None:
        raise refusal(f"a change of {self.name}")


class _Mapping(dict[Any, Any]):
    """An OrderedDict or defaultdict; attributes such as the ``_metadata`` of a state dict are dropped."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        pass


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_rest: Any) -> Tensor:
    if not isinstance(storage, Storage):
        raise refusal("a torch.Tensor without a storage")
    tensor = Tensor(storage, natural(offset), naturals(size), naturals(stride))
    if len(tensor.shape) != len(tensor.stride):
        raise WeightsError("is damaged: a tensor has more dimensions than strides")
    last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride, strict=True))
    if math.prod(tensor.shape) > 0 and last >= storage.elements:
        raise WeightsError(f"is damaged: a tensor of shape {tensor.shape} reaches past the end of its storage")
    return tensor


def _rebuild_parameter(data: Any, *_rest: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise refusal("a torch.nn.Parameter that is no tensor")
    return data


def _jittor_var(data: Any) -> NumPyArray:
    if not isinstance(data, NumPyArray):
        raise refusal("a jittor.Var that is no array")
    return data


def _reconstruct(array_type: Any, _shape: Any, _code: Any) -> NumPyArray:
    if not isinstance(array_type, _Function) or array_type.call is not _ndarray:
        raise refusal("an array of a class of its own")
    return NumPyArray()


def _ndarray(*_args: Any) -> Any:
    raise refusal("a call of numpy.ndarray")


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> NumPyArray:
    array = NumPyArray()
    array.fill(raw, dtype, shape, order)
    return array


def _scalar(dtype: Any, raw: Any) -> Any:
    if not isinstance(dtype, DType) or not isinstance(raw, bytes):
        raise refusal("a numpy scalar object")
    return np.frombuffer(raw, dtype.resolve(), count=1)[0].item()


def _encode(text: Any, encoding: Any) -> bytes:
    """How protocol 2 writes bytes: as the string of the same code points."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise refusal(f"_codecs.encode to {reprlib.repr(encoding)}")
    return text.encode("latin1")


def _bytes(*args: Any) -> bytes:
    """How protocol 2 writes empty bytes."""
    if args:
        raise refusal("a call of bytes with arguments")
    return b""


def _bytearray(raw: Any = b"") -> bytearray:
    if not isinstance(raw, bytes):
        raise refusal("a bytearray of something else than bytes")
    return bytearray(raw)


def _default_dict(*_factory: Any) -> _Mapping:
    return _Mapping()


def _ordered_dict(items: Any = ()) -> _Mapping:
    if not isinstance(items, (tuple, list)):
        raise refusal("an OrderedDict of something else than pairs")
    for item in items:
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise refusal("an OrderedDict of something else than pairs")
        _check_key(item[0])
    return _Mapping(items)


def _set(items: Any = ()) -> set[Any]:
    if not isinstance(items, (tuple, list)):
        raise refusal("a set of something else than a list")
    for item in items:
        _check_key(item)
    return set(items)


def _size(dimensions: Any = ()) -> tuple[int, ...]:
    return naturals(dimensions)


def _device(*args: Any) -> str:
    return ":".join(str(arg) for arg in args if isinstance(arg, (str, int)))


def _attribute(owner: Any, _name: Any) -> type[Opaque]:
    """``getattr``, but of an ``Opaque`` only: how protocol 2 names a method of a class."""
    if owner is not Opaque and not isinstance(owner, Opaque):
        raise refusal("builtins.getattr")
    return Opaque


def _dict_type(*_args: Any) -> Any:
    raise refusal("a call of dict")


_FUNCTIONS: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): _ordered_dict,
    ("collections", "defaultdict"): _default_dict,
    ("builtins", "dict"): _dict_type,  # the factory of a defaultdict
    ("__builtin__", "dict"): _dict_type,
    ("builtins", "set"): _set,
    ("__builtin__", "set"): _set,
    ("builtins", "bytes"): _bytes,
    ("__builtin__", "bytes"): _bytes,
    ("builtins", "bytearray"): _bytearray,
    ("__builtin__", "bytearray"): _bytearray,
    ("builtins", "getattr"): _attribute,
    ("__builtin__", "getattr"): _attribute,
    ("_codecs", "encode"): _encode,
    ("numpy", "ndarray"): _ndarray,
    ("numpy", "dtype"): lambda code, *_flags: DType(code),
    ("jittor", "Var"): _jittor_var,
    ("jittor_core", "Var"): _jittor_var,
    ("jittor", "jittor_core.Var"): _jittor_var,  # Jittor 1.3.11 gives its class this qualified name
    ("torch", "Size"): _size,
    ("torch", "device"): _device,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _rebuild_parameter,
}
for _core in ("numpy.core", "numpy._core"):  # NumPy 1 and NumPy 2
    _FUNCTIONS[_core + ".multiarray", "_reconstruct"] = _reconstruct
    _FUNCTIONS[_core + ".multiarray", "scalar"] = _scalar
    _FUNCTIONS[_core + ".numeric", "_frombuffer"] = _from_buffer

_HISTORY = ("mmengine.logging.history_buffer", "HistoryBuffer")

# What training frameworks put beside the weights. None of it is imported, called or kept.
_OPAQUE = frozenset(
    {
        ("argparse", "Namespace"),
        ("datetime", "date"),
        ("datetime", "datetime"),
        ("datetime", "timedelta"),
        ("datetime", "timezone"),
        ("pathlib", "Path"),
        ("pathlib", "PosixPath"),
        ("pathlib", "PurePosixPath"),
        ("pathlib", "WindowsPath"),
        ("jseg.config.config", "Config"),
        ("mmcv.utils.config", "ConfigDict"),
        ("mmengine.config.config", "ConfigDict"),
        _HISTORY,
    }
)


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
