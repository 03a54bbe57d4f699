"""Reads pickles without trusting them: arrays, containers, numbers and strings can be built, nothing else.

A pickle is a program that may call any function it can name. Here a name never leads to the real thing: the few
names that weights files need resolve to functions of this module, which check their arguments and build plain data;
every other name is refused before anything was called. Arrays are described first (``StoredArray``) and their
numbers read when asked for, so that the optimiser state in a training checkpoint costs nothing.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from segnext.errors import WeightsError

__all__ = ["DataUnpickler", "StorageReader", "StoredArray", "widen_bfloat16"]

Array = npt.NDArray[Any]
StorageReader = Callable[[str, np.dtype[Any], int], Array]
"""Reads a PyTorch storage: (key, dtype, number of elements) -> one-dimensional array."""

_NUMERIC = re.compile(r"[biufc]\d{1,2}")
_TEXT = re.compile(r"[SU]\d{1,6}")

# Names of PyTorch's storage classes and how their elements are stored; bfloat16 has no NumPy type of its own.
_BFLOAT16: np.dtype[Any] = np.dtype("V2")
_STORAGES: dict[str, np.dtype[Any]] = {
    "FloatStorage": np.dtype("f4"),
    "DoubleStorage": np.dtype("f8"),
    "HalfStorage": np.dtype("f2"),
    "BFloat16Storage": _BFLOAT16,
    "LongStorage": np.dtype("i8"),
    "IntStorage": np.dtype("i4"),
    "ShortStorage": np.dtype("i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}
_TORCH_DTYPES = frozenset(
    {"float16", "float32", "float64", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "bool"}
)


@dataclass(frozen=True)
class StoredArray:
    """An array described in a file, its numbers not yet read.

    Attributes:
        shape: of the array; ``()`` for a scalar.
        dtype: NumPy name of the element type, or ``bfloat16``.
        read: returns the array, C-contiguous and owning its memory; bfloat16 comes widened to float32, exactly.
    """

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], Array]


def widen_bfloat16(bits: Array) -> Array:
    """Returns float32 numbers of the bfloat16 numbers whose bits are given as uint16: the upper half, exactly."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


class DataUnpickler(pickle.Unpickler):
    """Unpickles one object that consists of data.

    NumPy arrays and PyTorch tensors come as ``StoredArray``, PyTorch dtypes and devices as strings; objects of
    a few known harmless kinds (dates, paths, logging histories) as an empty ``Opaque``.

    ``storage_sizes`` holds, after loading, the bytes per element of every PyTorch storage met, by its key.
    """

    def __init__(self, file: IO[bytes], *, origin: str, read_storage: StorageReader | None = None) -> None:
        super().__init__(file)
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
            if name in _STORAGES:
                return _StorageType(_STORAGES[name])
            if name in _TORCH_DTYPES:
                return f"torch.{name}"
        if (module, name) in _OPAQUE or (module == _HISTORY[0] and name.startswith(f"{_HISTORY[1]}.")):
            return Opaque  # a history refers to its own methods
        function = _FUNCTIONS.get((module, name))
        if function is None:
            raise _refusal(f"{module}.{name}")
        return _Function(f"{module}.{name}", function)

    def persistent_load(self, pid: Any) -> _Storage:
        if self._read_storage is None or not isinstance(pid, tuple) or len(pid) not in (5, 6):
            raise WeightsError("refers to data outside of itself, which no known format does")
        kind, storage_type, key, _location, elements = pid[:5]
        view = pid[5] if len(pid) == 6 else None
        if kind != "storage" or not isinstance(storage_type, _StorageType) or view is not None:
            raise WeightsError(
                f"holds a storage of an unknown kind ({kind!r}); save it again with PyTorch 1.6 or later"
            )
        self.storage_sizes[str(key)] = storage_type.dtype.itemsize
        return _Storage(str(key), storage_type.dtype, _natural(elements), self._read_storage)


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

    __slots__ = ("call", "name")

    def __init__(self, name: str, call: Callable[..., Any]) -> None:
        self.name = name
        self.call = call

    def __call__(self, *args: Any) -> Any:
        return self.call(*args)

    def __setstate__(self, state: Any) -> None:
        raise _refusal(f"a change of {self.name}")


class _Mapping(dict[Any, Any]):
    """An OrderedDict or defaultdict; attributes such as the ``_metadata`` of a state dict are dropped."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        pass


class _DType:
    """A NumPy dtype; only numbers and strings exist, objects and records do not."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any) -> None:
        if not isinstance(code, str) or not (_NUMERIC.fullmatch(code) or _TEXT.fullmatch(code)):
            raise _refusal(f"numpy.dtype({code!r})")
        self.code = code
        self.order = "="

    def __setstate__(self, state: Any) -> None:
        # (version, byte order, subarray, names, fields, size, alignment, flags[, metadata])
        if not isinstance(state, tuple) or len(state) < 5 or state[1] not in ("<", ">", "|", "="):
            raise _refusal("a numpy.dtype of unknown form")
        if any(part is not None for part in state[2:5]):
            raise _refusal("a numpy.dtype with fields")
        self.order = state[1]

    def resolve(self) -> np.dtype[Any]:
        return np.dtype(self.code).newbyteorder(self.order)  # type: ignore[arg-type]


class _NumPyArray:
    """A NumPy array under construction."""

    __slots__ = ("dtype", "fortran", "raw", "shape")

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = (0,)
        self.dtype: np.dtype[Any] = np.dtype("u1")
        self.fortran = False
        self.raw: bytes | bytearray = b""

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise _refusal("a numpy.ndarray of unknown form")
        _version, shape, dtype, fortran, raw = state
        self._fill(raw, dtype, shape, "F" if fortran else "C")

    def _fill(self, raw: Any, dtype: Any, shape: Any, order: Any) -> None:
        if not isinstance(dtype, _DType) or not isinstance(raw, (bytes, bytearray)):
            raise _refusal("a numpy.ndarray of objects")
        self.shape = _naturals(shape)
        self.dtype = dtype.resolve()
        self.fortran = order == "F"
        self.raw = raw
        if len(raw) != _product(self.shape) * self.dtype.itemsize:
            raise WeightsError(f"is damaged: an array of shape {self.shape} holds {len(raw)} bytes")

    def read(self) -> Array:
        flat = np.frombuffer(self.raw, self.dtype)
        array = flat.reshape(self.shape, order="F" if self.fortran else "C")
        return np.array(array, dtype=self.dtype.newbyteorder("="), order="C")


@dataclass(frozen=True)
class _StorageType:
    __slots__ = ("dtype",)
    dtype: np.dtype[Any]

    def __setstate__(self, state: Any) -> None:
        raise _refusal("a change of a storage type")


@dataclass(frozen=True)
class _Storage:
    __slots__ = ("dtype", "elements", "key", "reader")
    key: str
    dtype: np.dtype[Any]
    elements: int
    reader: StorageReader

    def __setstate__(self, state: Any) -> None:
        raise _refusal("a change of a storage")


@dataclass(frozen=True)
class _Tensor:
    """A PyTorch tensor: a strided view of a storage, all in elements."""

    __slots__ = ("offset", "shape", "storage", "stride")
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def __setstate__(self, state: Any) -> None:
        pass

    def read(self) -> Array:
        flat = self.storage.reader(self.storage.key, self.storage.dtype, self.storage.elements)
        if _product(self.shape) == 0:
            view = np.zeros(self.shape, flat.dtype)
        else:
            size = flat.dtype.itemsize
            view = np.lib.stride_tricks.as_strided(
                flat[self.offset :], self.shape, tuple(step * size for step in self.stride), writeable=False
            )
        array = np.array(view, order="C")  # not ascontiguousarray, which makes a vector of a scalar
        return widen_bfloat16(array.view(np.uint16)) if array.dtype == _BFLOAT16 else array


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_rest: Any) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise _refusal("a torch.Tensor without a storage")
    tensor = _Tensor(storage, _natural(offset), _naturals(size), _naturals(stride))
    if len(tensor.shape) != len(tensor.stride):
        raise WeightsError("is damaged: a tensor has more dimensions than strides")
    last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride, strict=True))
    if _product(tensor.shape) > 0 and last >= storage.elements:
        raise WeightsError(f"is damaged: a tensor of shape {tensor.shape} reaches past the end of its storage")
    return tensor


def _rebuild_parameter(data: Any, *_rest: Any) -> _Tensor:
    if not isinstance(data, _Tensor):
        raise _refusal("a torch.nn.Parameter that is no tensor")
    return data


def _jittor_var(data: Any) -> _NumPyArray:
    if not isinstance(data, _NumPyArray):
        raise _refusal("a jittor.Var that is no array")
    return data


def _reconstruct(array_type: Any, _shape: Any, _code: Any) -> _NumPyArray:
    if not isinstance(array_type, _Function) or array_type.call is not _ndarray:
        raise _refusal("an array of a class of its own")
    return _NumPyArray()


def _ndarray(*_args: Any) -> Any:
    raise _refusal("a call of numpy.ndarray")


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> _NumPyArray:
    array = _NumPyArray()
    array._fill(raw, dtype, shape, order)
    return array


def _scalar(dtype: Any, raw: Any) -> Any:
    if not isinstance(dtype, _DType) or not isinstance(raw, bytes):
        raise _refusal("a numpy scalar object")
    return np.frombuffer(raw, dtype.resolve(), count=1)[0].item()


def _encode(text: Any, encoding: Any) -> bytes:
    """How protocol 2 writes bytes: as the string of the same code points."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise _refusal(f"_codecs.encode to {encoding!r}")
    return text.encode("latin1")


def _bytes(*args: Any) -> bytes:
    """How protocol 2 writes empty bytes."""
    if args:
        raise _refusal("a call of bytes with arguments")
    return b""


def _bytearray(raw: Any = b"") -> bytearray:
    if not isinstance(raw, bytes):
        raise _refusal("a bytearray of something else than bytes")
    return bytearray(raw)


def _default_dict(*_factory: Any) -> _Mapping:
    return _Mapping()


def _ordered_dict(items: Any = ()) -> _Mapping:
    if not isinstance(items, (tuple, list)):
        raise _refusal("an OrderedDict of something else than pairs")
    return _Mapping(items)


def _set(items: Any = ()) -> set[Any]:
    if not isinstance(items, (tuple, list)):
        raise _refusal("a set of something else than a list")
    return set(items)


def _size(dimensions: Any = ()) -> tuple[int, ...]:
    return _naturals(dimensions)


def _device(*args: Any) -> str:
    return ":".join(str(arg) for arg in args if isinstance(arg, (str, int)))


def _attribute(owner: Any, _name: Any) -> type[Opaque]:
    """``getattr``, but of an ``Opaque`` only: how protocol 2 names a method of a class."""
    if owner is not Opaque and not isinstance(owner, Opaque):
        raise _refusal("builtins.getattr")
    return Opaque


def _dict_type(*_args: Any) -> Any:
    raise _refusal("a call of dict")


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
    ("numpy", "dtype"): lambda code, *_flags: _DType(code),
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


def _refusal(what: str) -> WeightsError:
    return WeightsError(
        f"refused to build {what}: a weights file may hold arrays, dicts, numbers and strings, nothing else. "
        "Nothing was executed. If you trust its source, save the bare state dict there and load that"
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
    if isinstance(node, _NumPyArray):
        return StoredArray(node.shape, node.dtype.name, node.read)
    if isinstance(node, _Tensor):
        dtype = node.storage.dtype
        return StoredArray(node.shape, "bfloat16" if dtype == _BFLOAT16 else dtype.name, node.read)
    return node


def _natural(value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise WeightsError(f"is damaged: {value!r} stands where a size belongs")
    return value


def _naturals(values: Any) -> tuple[int, ...]:
    if not isinstance(values, (tuple, list)):
        raise WeightsError(f"is damaged: {values!r} stands where a shape belongs")
    return tuple(_natural(value) for value in values)


def _product(shape: tuple[int, ...]) -> int:
    result = 1
    for n in shape:
        result *= n
    return result
