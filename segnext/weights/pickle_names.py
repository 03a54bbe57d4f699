"""What the names in a pickle stand for: functions that check their arguments and build plain data, nothing real."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Sized
from typing import Any

import numpy as np

from segnext.errors import WeightsError
from segnext.weights.lazy_arrays import (
    STORAGES,
    DType,
    NumPyArray,
    Storage,
    StorageType,
    Tensor,
    checked_shape,
    checked_size,
    refusal,
)

__all__ = ["Opaque", "check_key", "resolve_name"]

_TORCH_DTYPES = frozenset(
    {"float16", "float32", "float64", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "bool"}
)
_MOST_PARTS = 16  # of a tuple that is a key
_LARGEST_KEY = 2**127


def check_key(key: Any) -> None:
    """Refuses keys whose hash takes long or recurses deeply."""
    parts = key if isinstance(key, tuple) else (key,)
    if len(parts) > _MOST_PARTS or not all(
        part is None or isinstance(part, (str, bytes, float)) or (isinstance(part, int) and abs(part) < _LARGEST_KEY)
        for part in parts
    ):
        raise refusal(f"a dict or set with a key like {reprlib.repr(key)}")


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
    tensor = Tensor(storage, checked_size(offset), checked_shape(size), checked_shape(stride))
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
        check_key(item[0])
    return _Mapping(items)


def _set(items: Any = ()) -> set[Any]:
    if not isinstance(items, (tuple, list)):
        raise refusal("a set of something else than a list")
    for item in items:
        check_key(item)
    return set(items)


def _size(dimensions: Any = ()) -> tuple[int, ...]:
    return checked_shape(dimensions)


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


def resolve_name(module: str, name: str, spend: Callable[[int], None]) -> Any:
    """What a pickle gets for a name; ``spend`` is told how large the arguments of each call are.

    Raises:
        WeightsError: the name is none that weights files need.
    """
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
    return _Function(f"{module}.{name}", function, spend)
