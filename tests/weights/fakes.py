"""A model without Jittor, and writers of PyTorch's two containers without PyTorch.

The writers let Python's own pickle name PyTorch's classes, for which stand-ins lie in ``sys.modules`` for a moment.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from segnext.models.tensor_shapes import tensor_shapes


class FakeVar:
    """What loading needs of a Jittor variable."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> str:
        return str(self.array.dtype)

    def assign(self, array: np.ndarray) -> None:
        self.array = array

    def numpy(self) -> np.ndarray:
        return self.array


class FakeModel:
    """A model of a published size (or of ``shapes``) with random tensors."""

    def __init__(
        self, name: str = "tiny", *, num_classes: int = 19, seed: int = 0, shapes: Mapping[str, Any] | None = None
    ) -> None:
        rng = np.random.default_rng(seed)
        shapes = tensor_shapes(name, num_classes=num_classes) if shapes is None else shapes
        self.vars = {key: FakeVar(rng.standard_normal(shape, np.float32)) for key, shape in shapes.items()}

    def tensors(self) -> dict[str, FakeVar]:
        return self.vars

    def arrays(self) -> dict[str, np.ndarray]:
        return {name: var.array for name, var in self.vars.items()}


def assert_same_bits(left: Mapping[str, np.ndarray], right: Mapping[str, np.ndarray]) -> None:
    assert left.keys() == right.keys()
    for name, array in left.items():
        assert array.dtype == right[name].dtype
        assert array.shape == right[name].shape
        assert array.tobytes() == right[name].tobytes(), name


class Storage:
    """A PyTorch storage: ``kind`` such as FloatStorage, and its elements as they lie in the file."""

    def __init__(self, kind: str, elements: np.ndarray) -> None:
        self.kind = kind
        self.elements = elements


class Tensor:
    """A strided view of a storage, all in elements."""

    def __init__(self, storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> None:
        self.arguments = (storage, offset, size, stride, False, OrderedDict())

    def __reduce__(self) -> Any:
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.arguments


class Parameter(Tensor):
    def __reduce__(self) -> Any:
        utils = sys.modules["torch._utils"]
        return utils._rebuild_parameter, (Tensor(*self.arguments[:4]), True, OrderedDict())


class TorchSize:
    def __init__(self, *dimensions: int) -> None:
        self.dimensions = dimensions

    def __reduce__(self) -> Any:
        return sys.modules["torch"].Size, (self.dimensions,)


def torch_tensor(array: np.ndarray) -> Tensor:
    """A contiguous float32 or int64 array as PyTorch keeps it."""
    kind = {"float32": "FloatStorage", "int64": "LongStorage"}[array.dtype.name]
    stride = tuple(step // array.itemsize for step in array.strides)
    return Tensor(Storage(kind, array.reshape(-1)), 0, array.shape, stride)


def torch_state(arrays: Mapping[str, np.ndarray]) -> OrderedDict[str, Tensor]:
    return OrderedDict((name, torch_tensor(array)) for name, array in arrays.items())


def write_torch_zip(path: Path, content: Any, *, byteorder: bytes | None = b"little") -> Path:
    program, storages = _dump(content)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        if byteorder is not None:
            archive.writestr("archive/byteorder", byteorder)
        for key, storage in storages.items():
            archive.writestr(f"archive/data/{key}", storage.elements.tobytes())
        archive.writestr("archive/version", b"3\n")
    return path


def write_torch_legacy(path: Path, content: Any) -> Path:
    program, storages = _dump(content, view_metadata=True)
    parts = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    parts += [program, pickle.dumps(sorted(storages), 2)]
    for key in sorted(storages):
        elements = storages[key].elements
        parts += [struct.pack("<q", elements.size), elements.tobytes()]
    path.write_bytes(b"".join(parts))
    return path


def _dump(content: Any, *, view_metadata: bool = False) -> tuple[bytes, dict[str, Storage]]:
    storages: dict[str, Storage] = {}
    keys: dict[int, str] = {}

    class Pickler(pickle.Pickler):
        def persistent_id(self, item: Any) -> Any:
            if not isinstance(item, Storage):
                return None
            key = keys.setdefault(id(item), str(len(keys)))
            storages[key] = item
            kind = getattr(sys.modules["torch"], item.kind)
            return ("storage", kind, key, "cuda:0", item.elements.size, *([None] if view_metadata else []))

    buffer = io.BytesIO()
    with _stand_ins():
        Pickler(buffer, 2).dump(content)
    return buffer.getvalue(), storages


@contextlib.contextmanager
def _stand_ins() -> Iterator[None]:
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    kinds = ["Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool"]
    for name in [*(f"{kind}Storage" for kind in kinds), "Size"]:
        setattr(torch, name, type(name, (), {"__module__": "torch", "__qualname__": name}))
    for name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
        function = types.FunctionType((lambda *args: None).__code__, {}, name)
        function.__module__, function.__qualname__ = "torch._utils", name
        setattr(utils, name, function)
    before = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules.update({"torch": torch, "torch._utils": utils})
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
