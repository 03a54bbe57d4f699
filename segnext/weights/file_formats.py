"""Opens weights files of every container, told apart by their first bytes and not by their names.

* safetensors: 8 bytes of header length, a JSON header, raw arrays;
* PyTorch since 1.6: a zip archive with one pickle and one entry per storage;
* PyTorch before 1.6: five pickles after each other (magic number, version, system, object, storage keys), then
  each storage as its length and its elements;
* Jittor: one pickle of NumPy arrays, followed by its SHA-1 and a mark.

None needs PyTorch, Jittor or trust in the file.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, deserialize

from segnext.errors import WeightsError
from segnext.weights.lazy_arrays import StoredArray, widen_bfloat16
from segnext.weights.unpickling import DataUnpickler

__all__ = ["JITTOR_MARK", "TORCH_LEGACY_MAGIC", "open_container"]

JITTOR_MARK = b"HCAJSLHD"
TORCH_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C

_SHA1_BYTES = 20
_ZIP_ERRORS = (  # what zipfile raises for damaged archives, depending on which bytes are wrong
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    KeyError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,
)
_SAFETENSORS_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


def open_container(path: Path) -> Any:
    """Returns the object in a weights file, arrays as ``StoredArray``: in general dicts inside a dict.

    Raises:
        WeightsError: no such file, an unknown, damaged or truncated container, or an unsafe pickle.
    """
    if path.is_dir():
        raise WeightsError(f"{path} is a folder: name a weights file (.safetensors, .pkl or .pth)")
    if path.exists() and not path.is_file():
        raise WeightsError(f"{path} is a pipe or device, not a file: name a weights file")
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except FileNotFoundError as error:
        raise WeightsError(f"{path} does not exist: check the path of the weights file") from error
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({error.strerror}): check its permissions") from error
    if head.startswith(b"PK\x03\x04"):
        return _open_torch_zip(path)
    if len(head) > 8 and head[8:9] == b"{":
        return _open_safetensors(path)
    if head.startswith(b"\x80\x02\x8a\x0a") and head[4:14] == TORCH_LEGACY_MAGIC.to_bytes(10, "little"):
        return _open_torch_legacy(path)
    if head.startswith(b"\x80"):
        return _open_jittor(path)
    if head.lstrip()[:1] == b"<":
        raise WeightsError(f"{path} is a web page, not weights: the download went wrong, get the file again")
    raise WeightsError(f"{path} is no weights file: known are .safetensors, .pkl of Jittor and .pth of PyTorch")


def _open_safetensors(path: Path) -> dict[str, StoredArray]:
    try:
        entries = deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
        return {name: _safetensor(path, name, entry) for name, entry in entries}
    except SafetensorError as error:
        raise _damaged(path, error) from error


def _safetensor(path: Path, name: str, entry: dict[str, Any]) -> StoredArray:
    code, shape, raw = entry["dtype"], tuple(entry["shape"]), entry["data"]
    if code == "BF16":
        return StoredArray(shape, "bfloat16", lambda: widen_bfloat16(np.frombuffer(raw, "<u2").reshape(shape)))
    if code not in _SAFETENSORS_DTYPES:
        raise WeightsError(f"{path}: {name} is of type {code}, which is not supported: save it as float32")
    dtype = np.dtype(_SAFETENSORS_DTYPES[code])

    def read() -> npt.NDArray[Any]:
        return np.frombuffer(raw, dtype.newbyteorder("<")).reshape(shape).astype(dtype.newbyteorder("="))

    return StoredArray(shape, dtype.name, read)


def _open_torch_zip(path: Path) -> Any:
    try:
        archive = zipfile.ZipFile(path)
        names = archive.namelist()
        pickles = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise WeightsError(f"{path} is a zip archive, but not one that torch.save wrote")
        folder = pickles[0].split("/")[0]
        if any(name.startswith(f"{folder}/code/") for name in names):
            raise WeightsError(f"{path} is a TorchScript program, not weights: save its state_dict() and load that")
        if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):  # may unpack to any size
            raise WeightsError(f"{path} is a compressed archive, which torch.save does not write: save it there again")
        order = archive.read(f"{folder}/byteorder") if f"{folder}/byteorder" in names else b"little"
        program = archive.read(pickles[0])
    except _ZIP_ERRORS as error:
        raise _damaged(path, error) from error

    def read_storage(key: str, dtype: np.dtype[Any], elements: int) -> npt.NDArray[Any]:
        try:
            raw = archive.read(f"{folder}/data/{key}")
        except _ZIP_ERRORS as error:
            raise _damaged(path, error) from error
        return _elements(path, raw, dtype, elements, little=order == b"little")

    return DataUnpickler(io.BytesIO(program), origin=str(path), read_storage=read_storage).load()


def _open_torch_legacy(path: Path) -> Any:
    positions: dict[str, int] = {}
    little = True

    def read_storage(key: str, dtype: np.dtype[Any], elements: int) -> npt.NDArray[Any]:
        if key not in positions:
            raise _damaged(path, f"storage {key} is missing")
        with path.open("rb") as file:
            file.seek(positions[key])
            raw = file.read(min(elements * dtype.itemsize, path.stat().st_size))
        return _elements(path, raw, dtype, elements, little=little)

    sizes: dict[str, int] = {}
    with path.open("rb") as file:

        def load() -> Any:
            unpickler = DataUnpickler(file, origin=str(path), read_storage=read_storage)
            result = unpickler.load()
            sizes.update(unpickler.storage_sizes)
            return result

        load()  # magic number
        load()  # protocol version
        system = load()
        little = not isinstance(system, dict) or bool(system.get("little_endian", True))
        result = load()
        keys = load()
        if not isinstance(keys, list):
            raise _damaged(path, "the list of its storages is missing")
        if not all(isinstance(key, (str, int)) for key in keys):
            raise _damaged(path, "the list of its storages holds something else than keys")
        end = path.stat().st_size
        for key in keys:
            (elements,) = struct.unpack("<q" if little else ">q", _exactly(path, file, 8))
            positions[str(key)] = file.tell()
            if elements < 0 or str(key) not in sizes:
                raise _damaged(path, f"storage {key} is not described")
            if elements * sizes[str(key)] > end - file.tell():
                raise _damaged(path, "it ends too early")
            file.seek(elements * sizes[str(key)], io.SEEK_CUR)
    return result


def _open_jittor(path: Path) -> Any:
    data = path.read_bytes()
    if data.endswith(JITTOR_MARK):
        end = len(data) - len(JITTOR_MARK)
        program, checksum = data[: end - _SHA1_BYTES], data[end - _SHA1_BYTES : end]
        if hashlib.sha1(program).digest() != checksum:
            raise _damaged(path, "its SHA-1 is wrong")
        data = program
    return DataUnpickler(io.BytesIO(data), origin=str(path)).load()


def _exactly(path: Path, file: IO[bytes], size: int) -> bytes:
    raw = file.read(size)
    if len(raw) != size:
        raise _damaged(path, "it ends too early")
    return raw


def _elements(path: Path, raw: bytes, dtype: np.dtype[Any], elements: int, *, little: bool) -> npt.NDArray[Any]:
    if len(raw) != elements * dtype.itemsize:
        raise _damaged(path, f"a storage of {elements} elements holds {len(raw)} bytes")
    if dtype.kind == "V":  # bfloat16: two bytes without an order of their own
        flat = np.frombuffer(raw, np.dtype("<u2" if little else ">u2")).astype("=u2")
        return flat.view(dtype)
    return np.frombuffer(raw, dtype.newbyteorder("<" if little else ">")).astype(dtype, copy=False)


def _damaged(path: Path, reason: object) -> WeightsError:
    return WeightsError(f"{path} is damaged ({reason}): delete it and get it again")
