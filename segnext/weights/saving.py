"""Writes weights: safetensors (our own), Jittor's .pkl and PyTorch's .pth, the latter two without either library."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save as safetensors_bytes

from segnext.errors import WeightsError
from segnext.files import write_atomically
from segnext.weights.file_formats import JITTOR_MARK
from segnext.weights.key_format import KeyFormat, renamed_for, with_batch_counters
from segnext.weights.loading import HasTensors

__all__ = ["SUFFIXES", "save_weights"]

Array = npt.NDArray[Any]

SUFFIXES = (".safetensors", ".pkl", ".pth")

_STORAGES = {"f4": "FloatStorage", "i8": "LongStorage"}


def save_weights(
    model: HasTensors | Mapping[str, Array],
    path: str | Path,
    *,
    key_format: KeyFormat | str = KeyFormat.official,
    metadata: Mapping[str, Any] | None = None,
) -> Path:
    """Writes every tensor of a model to a file, whose suffix chooses the container.

    ``.safetensors`` holds officially named float32 arrays; ``.pkl`` is what ``jittor.load`` and JSeg read;
    ``.pth`` is a dict of ``state_dict`` and ``meta`` that ``torch.load(weights_only=True)`` and mmcv read, with the
    batch counters that PyTorch demands. All are bit-exact. The file appears whole or not at all: it is written under a
    temporary name, flushed to the disk and renamed.

    Args:
        model: an object with ``tensors()``, or official name -> array.
        path: of the file to write; its folder is created.
        key_format: names in the file: ``official``, or ``mmseg`` for mmsegmentation (``.pth`` and ``.pkl``).
        metadata: plain values to keep beside the weights (model, classes, palette …); in safetensors as JSON
            text, in ``.pth`` under ``meta``, where ``classes`` and ``palette`` are what mmsegmentation looks for;
            a ``.pkl`` has no place for them.

    Raises:
        WeightsError: unknown suffix or key format, a tensor that is not float32, or a disk that is full or read-only.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise WeightsError(f"{path} cannot be written: give it one of the suffixes {', '.join(SUFFIXES)}")
    if path.suffix == ".safetensors" and key_format != KeyFormat.official:
        raise WeightsError(f"{path}: safetensors keep the official names, leave key_format={key_format} out")
    tensors = renamed_for(_arrays(model), key_format)
    metadata = dict(metadata or {})
    if path.suffix == ".safetensors":
        header = {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}
        write_atomically(path, safetensors_bytes(tensors, header), error=WeightsError)
    elif path.suffix == ".pkl":
        write_atomically(path, _jittor_bytes(tensors), error=WeightsError)
    else:
        write_atomically(path, _torch_bytes(with_batch_counters(tensors), metadata, path.stem), error=WeightsError)
    return path


def _arrays(model: HasTensors | Mapping[str, Array]) -> dict[str, Array]:
    given = model if isinstance(model, Mapping) else model.tensors()
    tensors: dict[str, Array] = {}
    for name, value in given.items():
        array = np.asarray(value if isinstance(value, np.ndarray) else value.numpy())
        if array.dtype != np.float32:
            raise WeightsError(f"{name} is {array.dtype}: weights are saved as float32, convert it first")
        # safetensors would write the memory of a transposed view as it lies; ascontiguousarray loses 0-d shapes
        tensors[name] = array if array.flags.c_contiguous else np.array(array, order="C")
    return tensors


def _jittor_bytes(tensors: Mapping[str, Array]) -> bytes:
    program = pickle.dumps(dict(tensors), protocol=4)
    return program + hashlib.sha1(program).digest() + JITTOR_MARK


def _torch_bytes(tensors: Mapping[str, Array], metadata: Mapping[str, Any], folder: str) -> bytes:
    """The zip container of PyTorch 1.6 and later, protocol version 3, little-endian."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:

        def add(name: str, content: bytes) -> None:  # a ZipInfo has a fixed date: equal weights, equal files
            archive.writestr(zipfile.ZipInfo(f"{folder}/{name}"), content)

        add("data.pkl", _TorchPickle().dump(tensors, _torch_meta(metadata)))
        add("byteorder", b"little")
        for key, array in enumerate(tensors.values()):
            raw = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
            add(f"data/{key}", raw)
        add("version", b"3\n")
    return buffer.getvalue()


def _torch_meta(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Plain JSON values, with classes and palette also where mmsegmentation 0.x and 1.x look for them."""
    meta: dict[str, Any] = json.loads(json.dumps(metadata, default=_plain))
    if "classes" in meta and "palette" in meta:
        meta["CLASSES"], meta["PALETTE"] = meta["classes"], meta["palette"]
        meta["dataset_meta"] = {"classes": meta["classes"], "palette": meta["palette"]}
    return meta


def _plain(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    raise WeightsError(f"metadata holds {value!r} of type {type(value).__name__}: give plain values")


class _TorchPickle:
    """Writes the pickle that PyTorch would write, opcode by opcode, since its classes cannot be named without it."""

    def __init__(self) -> None:
        self._out = io.BytesIO()

    def dump(self, tensors: Mapping[str, Array], meta: Mapping[str, Any]) -> bytes:
        """Returns the program for ``{"meta": meta, "state_dict": OrderedDict(tensors)}``."""
        self._out.write(pickle.PROTO + b"\x02" + pickle.EMPTY_DICT + pickle.MARK)
        self._value("meta")
        self._value(meta)
        self._value("state_dict")
        self._call("collections", "OrderedDict")
        self._out.write(pickle.EMPTY_TUPLE + pickle.REDUCE + pickle.MARK)
        for key, (name, array) in enumerate(tensors.items()):
            self._value(name)
            self._tensor(str(key), array)
        self._out.write(pickle.SETITEMS + pickle.SETITEMS + pickle.STOP)
        return self._out.getvalue()

    def _tensor(self, key: str, array: Array) -> None:
        self._call("torch._utils", "_rebuild_tensor_v2")
        self._out.write(pickle.MARK)  # the arguments: storage, offset, size, stride, requires_grad, hooks
        self._out.write(pickle.MARK)  # what identifies the storage
        self._value("storage")
        self._call("torch", _STORAGES[array.dtype.str[1:]])
        for part in (key, "cpu", array.size):
            self._value(part)
        self._out.write(pickle.TUPLE + pickle.BINPERSID)
        self._value(0)
        self._tuple(array.shape)
        self._tuple(tuple(step // array.itemsize for step in array.strides))
        self._out.write(pickle.NEWFALSE)
        self._call("collections", "OrderedDict")
        self._out.write(pickle.EMPTY_TUPLE + pickle.REDUCE + pickle.TUPLE + pickle.REDUCE)

    def _call(self, module: str, name: str) -> None:
        self._out.write(pickle.GLOBAL + f"{module}\n{name}\n".encode())

    def _tuple(self, items: tuple[int, ...]) -> None:
        self._out.write(pickle.MARK)
        for item in items:
            self._value(item)
        self._out.write(pickle.TUPLE)

    def _value(self, value: Any) -> None:
        """Writes a JSON value: the body of the standard library's own pickle, without its frame."""
        self._out.write(pickle.dumps(value, protocol=2)[2:-1])
