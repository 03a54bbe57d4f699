"""Every container of weights is told by its content and read without the library that wrote it."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segnext.errors import WeightsError
from segnext.weights.file_formats import open_container
from tests.weights.fakes import (
    Parameter,
    Storage,
    Tensor,
    TorchSize,
    torch_tensor,
    write_torch_legacy,
    write_torch_zip,
)

Writer = Callable[[Path, Any], Path]
TORCH_WRITERS = [write_torch_zip, write_torch_legacy]


def write_safetensors(path: Path, entries: dict[str, tuple[str, list[int], bytes]]) -> Path:
    header: dict[str, Any] = {"__metadata__": {"model": "tiny"}}
    data = b""
    for name, (dtype, shape, raw) in entries.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def write_jittor(path: Path, content: Any) -> Path:
    program = pickle.dumps(content, 4)
    path.write_bytes(program + hashlib.sha1(program).digest() + b"HCAJSLHD")
    return path


@pytest.mark.parametrize("write", TORCH_WRITERS)
def test_tensors_of_every_number_format_are_read(write: Writer, tmp_path: Path) -> None:
    kinds = {"Float": "f4", "Double": "f8", "Half": "f2", "Long": "i8", "Int": "i4", "Short": "i2", "Byte": "u1"}
    content = {
        kind: Tensor(Storage(f"{kind}Storage", np.array([1, 2, 3], dtype)), 0, (3,), (1,))
        for kind, dtype in kinds.items()
    }
    content["Bool"] = Tensor(Storage("BoolStorage", np.array([True, False])), 0, (2,), (1,))
    loaded = open_container(write(tmp_path / "x.pth", content))
    for kind, dtype in kinds.items():
        assert loaded[kind].read().dtype == dtype
        assert loaded[kind].read().tolist() == [1, 2, 3]
    assert loaded["Bool"].read().tolist() == [True, False]


@pytest.mark.parametrize("write", TORCH_WRITERS)
def test_bfloat16_is_widened_exactly(write: Writer, tmp_path: Path) -> None:
    bits = np.array([0x3F80, 0xC040, 0x0001], np.uint16)  # 1, -3 and the smallest positive number, 2^-133
    content = {"a": Tensor(Storage("BFloat16Storage", bits), 0, (3,), (1,))}
    tensor = open_container(write(tmp_path / "x.pth", content))["a"]
    assert tensor.dtype == "bfloat16"
    assert tensor.read().dtype == np.float32
    # Compared as bits: once Jittor runs in a process, its floating-point arithmetic takes the last one for 0.
    assert tensor.read().view(np.uint32).tolist() == [0x3F800000, 0xC0400000, 0x00010000]


@pytest.mark.parametrize("write", TORCH_WRITERS)
def test_views_of_a_shared_storage_respect_offset_and_stride(write: Writer, tmp_path: Path) -> None:
    storage = Storage("FloatStorage", np.arange(12, dtype=np.float32))
    content = {
        "transposed": Tensor(storage, 0, (4, 3), (1, 4)),
        "inner": Tensor(storage, 5, (2, 2), (4, 1)),
        "repeated": Tensor(storage, 2, (3, 2), (0, 1)),
        "scalar": Tensor(storage, 11, (), ()),
        "empty": Tensor(storage, 12, (0, 5), (5, 1)),
    }
    loaded = open_container(write(tmp_path / "x.pth", content))
    arrays = {name: tensor.read() for name, tensor in loaded.items()}
    assert arrays["transposed"].tolist() == np.arange(12).reshape(3, 4).T.tolist()
    assert arrays["transposed"].flags.c_contiguous
    assert arrays["inner"].tolist() == [[5, 6], [9, 10]]
    assert arrays["repeated"].tolist() == [[2, 3]] * 3
    assert arrays["scalar"].shape == ()
    assert arrays["scalar"] == 11
    assert arrays["empty"].shape == (0, 5)


@pytest.mark.parametrize("write", TORCH_WRITERS)
def test_a_training_checkpoint_with_optimiser_parameters_and_sizes_is_read(write: Writer, tmp_path: Path) -> None:
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    content = {
        "state_dict": OrderedDict(w=Parameter(*torch_tensor(weight).arguments[:4])),
        "optimizer": {"state": {0: {"step": 3, "exp_avg": torch_tensor(weight)}}, "param_groups": [{"lr": 6e-5}]},
        "meta": {"iter": 160000, "CLASSES": ("wall", "building"), "shape": TorchSize(2, 3)},
    }
    loaded = open_container(write(tmp_path / "x.pth", content))
    assert np.array_equal(loaded["state_dict"]["w"].read(), weight)
    assert np.array_equal(loaded["optimizer"]["state"][0]["exp_avg"].read(), weight)
    assert loaded["meta"] == {"iter": 160000, "CLASSES": ("wall", "building"), "shape": (2, 3)}


def test_big_endian_zip_archives_are_swapped(tmp_path: Path) -> None:
    content = {"a": Tensor(Storage("FloatStorage", np.array([1.5, -2], ">f4")), 0, (2,), (1,))}
    path = write_torch_zip(tmp_path / "x.pth", content, byteorder=b"big")
    assert open_container(path)["a"].read().tolist() == [1.5, -2]


def test_zip_archives_of_early_pytorch_without_byte_order_are_little_endian(tmp_path: Path) -> None:
    path = write_torch_zip(tmp_path / "x.pth", {"a": torch_tensor(np.ones(2, np.float32))}, byteorder=None)
    assert open_container(path)["a"].read().tolist() == [1, 1]


@pytest.mark.parametrize("write", TORCH_WRITERS)
def test_a_tensor_that_reaches_past_its_storage_is_refused(write: Writer, tmp_path: Path) -> None:
    content = {"a": Tensor(Storage("FloatStorage", np.zeros(12, np.float32)), 1, (3, 4), (4, 1))}
    with pytest.raises(WeightsError, match="past the end of its storage"):
        open_container(write(tmp_path / "x.pth", content))


def test_jittor_pickles_are_read_with_and_without_their_checksum(tmp_path: Path) -> None:
    weights = {"a": np.arange(3, dtype=np.float32)}
    signed = write_jittor(tmp_path / "signed.pkl", {"model": weights, "meta": {"iter": 8}, "scheduler": {}})
    plain = tmp_path / "plain.pkl"
    plain.write_bytes(pickle.dumps(weights, 2))
    assert open_container(signed)["model"]["a"].read().tolist() == [0, 1, 2]
    assert open_container(plain)["a"].read().tolist() == [0, 1, 2]


def test_a_jittor_pickle_with_a_wrong_checksum_is_refused(tmp_path: Path) -> None:
    path = write_jittor(tmp_path / "x.pkl", {"a": np.arange(3, dtype=np.float32)})
    damaged = bytearray(path.read_bytes())
    damaged[-40] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(WeightsError, match=r"x\.pkl is damaged \(its SHA-1 is wrong\).*get it again"):
        open_container(path)


def test_safetensors_are_read_in_every_number_format(tmp_path: Path) -> None:
    entries = {
        "f": ("F32", [2], np.array([1, 2], "<f4").tobytes()),
        "h": ("F16", [1, 1], np.array([0.5], "<f2").tobytes()),
        "b": ("BF16", [1], np.array([0x4040], "<u2").tobytes()),
        "s": ("F64", [], np.array(7, "<f8").tobytes()),
        "i": ("I64", [1], np.array([-1], "<i8").tobytes()),
    }
    loaded = open_container(write_safetensors(tmp_path / "x.safetensors", entries))
    assert {name: (tensor.shape, tensor.dtype, tensor.read().tolist()) for name, tensor in loaded.items()} == {
        "f": ((2,), "float32", [1, 2]),
        "h": ((1, 1), "float16", [[0.5]]),
        "b": ((1,), "bfloat16", [3]),
        "s": ((), "float64", 7),
        "i": ((1,), "int64", [-1]),
    }


def test_an_unsupported_number_format_is_named(tmp_path: Path) -> None:
    path = write_safetensors(tmp_path / "x.safetensors", {"w": ("F8_E4M3", [1], b"\x01")})
    with pytest.raises(WeightsError, match="w is of type F8_E4M3"):
        open_container(path)


def test_the_content_decides_and_not_the_name(tmp_path: Path) -> None:
    path = write_torch_zip(tmp_path / "renamed.pkl", {"a": torch_tensor(np.ones(1, np.float32))})
    assert open_container(path)["a"].read().tolist() == [1]


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors", "jittor"])
@pytest.mark.parametrize("kept", [0.3, 0.7, 0.99])
def test_a_truncated_file_is_named_with_its_cure(kind: str, kept: float, tmp_path: Path) -> None:
    weights = np.ones(1000, np.float32)
    path = tmp_path / "x"
    if kind == "zip":
        write_torch_zip(path, {"a": torch_tensor(weights)})
    elif kind == "legacy":
        write_torch_legacy(path, {"a": torch_tensor(weights)})
    elif kind == "safetensors":
        write_safetensors(path, {"a": ("F32", [1000], weights.tobytes())})
    else:
        write_jittor(path, {"a": weights})
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(WeightsError, match=r"x is damaged.*get it again"):
        open_container(path)


def test_a_flipped_bit_in_a_zip_archive_is_found_when_read(tmp_path: Path) -> None:
    path = write_torch_zip(tmp_path / "x.pth", {"a": torch_tensor(np.zeros(1000, np.float32))})
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(bytes(500)) + 100] = 1
    path.write_bytes(damaged)
    with pytest.raises(WeightsError, match="damaged"):
        open_container(path)["a"].read()


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors", "jittor"])
def test_wrong_bytes_anywhere_give_weights_or_a_weights_error(kind: str, tmp_path: Path) -> None:
    weights, path = np.ones((2, 3), np.float32), tmp_path / "x"
    content = {"state_dict": {"a": torch_tensor(weights)}, "meta": {"b": (1, {2}), "c": np.float32(3)}}
    if kind == "zip":
        write_torch_zip(path, content)
    elif kind == "legacy":
        write_torch_legacy(path, content)
    elif kind == "safetensors":
        write_safetensors(path, {"a": ("F32", [2, 3], weights.tobytes())})
    else:
        path.write_bytes(pickle.dumps({"model": {"a": weights}, "meta": content["meta"]}, 4))
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for position in rng.integers(0, len(whole), rng.integers(1, 4)):
            damaged[position] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            opened = open_container(path)
            opened.get("state_dict", opened.get("model", opened))["a"].read()
        except WeightsError:
            refused += 1
        except (AttributeError, KeyError):
            pass  # other names or other data: unwrapping refuses them
    assert refused > 30


def test_other_files_are_told_from_weights(tmp_path: Path) -> None:
    cases = {
        "page.pth": (b"<!DOCTYPE html><html>not found</html>", "web page"),
        "notes.pkl": (b"some text that is long enough", "no weights file"),
        "empty.pth": (b"", "no weights file"),
    }
    for name, (content, message) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match=f"{name} is .*{message}"):
            open_container(tmp_path / name)
    with pytest.raises(WeightsError, match="is a folder"):
        open_container(tmp_path)
    with pytest.raises(WeightsError, match=r"missing\.pth does not exist"):
        open_container(tmp_path / "missing.pth")


def test_archives_that_are_no_weights_are_told_apart(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("a.jpg", b"x")
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        archive.writestr("m/data.pkl", b"x")
        archive.writestr("m/code/__torch__.py", b"x")
    with pytest.raises(WeightsError, match=r"not one that torch\.save wrote"):
        open_container(tmp_path / "photos.zip")
    with pytest.raises(WeightsError, match="TorchScript"):
        open_container(tmp_path / "script.pt")
