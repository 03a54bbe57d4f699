"""Every reader of weights ends in time, in memory and with one clear error, whatever a file holds."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segnext.errors import WeightsError
from segnext.weights import unpickling
from segnext.weights.checkpoint import CheckpointInfo
from segnext.weights.file_formats import TORCH_LEGACY_MAGIC
from segnext.weights.loading import ArrayModel, load_weights, read_weights
from segnext.weights.saving import save_weights
from segnext.weights.unpickling import DataUnpickler
from tests.mutations import limits, mutated
from tests.weights.fakes import Storage, Tensor, torch_state, write_torch_legacy, write_torch_zip

ARRAYS = {
    "backbone.block1.0.mlp.dwconv.dwconv.weight": np.ones((4, 1, 3, 3), np.float32),
    "decode_head.conv_seg.bias": np.arange(6, dtype=np.float32),
}


def doubled_tuple(times: int = 34) -> bytes:
    """Opcodes that push a tuple of two equal tuples of two equal tuples …: 2^times parts in a few bytes."""
    program = b")q\x640"  # an empty tuple, remembered as number 100
    for number in range(100, 100 + times):
        program += b"h" + bytes([number]) + b"h" + bytes([number]) + b"\x86q" + bytes([number + 1]) + b"0"
    return program + b"h" + bytes([100 + times])


def deep_tuple(depth: int = 100_000) -> bytes:
    return b")" + b"\x85" * depth


def pickled(body: bytes) -> bytes:
    return b"\x80\x04" + body + b"."


def named(module: str, name: str) -> bytes:
    return b"c" + f"{module}\n{name}\n".encode()


HOSTILE = {
    "doubled tuples as a key": pickled(b"}" + doubled_tuple() + b"Ns"),
    "doubled tuples as keys": pickled(b"}(" + doubled_tuple() + b"Nu"),
    "doubled tuples as a key of DICT": pickled(b"(" + doubled_tuple() + b"Nd"),
    "doubled tuples in a set": pickled(b"\x8f(" + doubled_tuple() + b"\x90"),
    "doubled tuples in a frozenset": pickled(b"(" + doubled_tuple() + b"\x91"),
    "doubled tuples in an OrderedDict": pickled(
        named("collections", "OrderedDict") + b"]" + doubled_tuple() + b"N\x86a\x85R"
    ),
    "doubled tuples in a set that is called": pickled(named("builtins", "set") + b"]" + doubled_tuple() + b"a\x85R"),
    "doubled tuples as a dtype": pickled(named("numpy", "dtype") + doubled_tuple() + b"\x85R"),
    "doubled tuples as a shape": pickled(named("torch", "Size") + doubled_tuple() + b"\x85R"),
    "doubled tuples as an encoding": pickled(named("_codecs", "encode") + b"X\1\0\0\0a" + doubled_tuple() + b"\x86R"),
    "doubled tuples as a storage": pickled(doubled_tuple() + b"Q"),
    "deep tuples as a key": pickled(b"}" + deep_tuple() + b"Ns"),
    "deep tuples as a value": pickled(b"}K\x01" + deep_tuple() + b"s"),
    "deep lists": pickled(b"]" * 100_000 + b"a" * 99_999),
    "a dict that holds itself": pickled(b"}\x94X\x05\x00\x00\x00modelh\x00s"),
    "a list that holds itself": pickled(b"]\x94h\x00a"),
    "a bytearray of an exabyte": pickled(b"\x96" + struct.pack("<Q", 1 << 60)),
    "bytes of an exabyte": pickled(b"\x8e" + struct.pack("<Q", 1 << 60)),
    "a frame of an exabyte": pickled(b"\x95" + struct.pack("<Q", 1 << 60)),
    "a memo of four billion": pickled(b"Nr" + struct.pack("<I", 2**32 - 1)),
    "the same megabyte encoded again and again": pickled(
        named("_codecs", "encode") + b"\x940X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20) + b"\x940]"
        + b"h\x00h\x01X\x06\x00\x00\x00latin1\x86Ra" * 2000
    ),
    "the same list copied again and again": pickled(
        named("collections", "OrderedDict") + b"\x940]\x94("
        + b"".join(b"J" + struct.pack("<i", n) + b"N\x86" for n in range(20_000))
        + b"e0]" + b"h\x00h\x01\x85Ra" * 20_000
    ),
    "an endless shape": pickled(named("torch", "Size") + b"(" + b"K\x02" * 100_000 + b"t\x85R"),
}  # fmt: skip


KEYS = [name for name in HOSTILE if name.endswith(("key", "keys", "DICT", "set", "frozenset", "OrderedDict", "called"))]


@pytest.mark.parametrize("name", KEYS)
def test_what_cannot_be_hashed_in_time_is_no_key(name: str) -> None:
    with limits(), pytest.raises(WeightsError, match="a dict or set with a key like"):
        DataUnpickler(io.BytesIO(HOSTILE[name]), origin="some.pkl").load()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pickle_is_refused_in_no_time(name: str, tmp_path: Path) -> None:
    (tmp_path / "weights.pkl").write_bytes(HOSTILE[name])
    with limits(seconds=5, megabytes=128), pytest.raises(WeightsError, match=r"weights\.pkl"):
        read_weights(tmp_path / "weights.pkl")


def test_a_program_without_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpickling._CountedOpcodes, "left", 1000)
    with pytest.raises(WeightsError, match="instructions"):
        DataUnpickler(io.BytesIO(pickled(b"N0" * 1000 + b"N")), origin="some.pkl").load()


def test_the_legacy_container_reserves_no_memory_for_what_is_not_there(tmp_path: Path) -> None:
    head = b"".join(pickle.dumps(part, 2) for part in (TORCH_LEGACY_MAGIC, 1001, {"little_endian": True}))
    (tmp_path / "weights.pth").write_bytes(head + pickled(b"\x8e" + struct.pack("<Q", 8 << 30)))
    with limits(megabytes=64), pytest.raises(WeightsError):
        read_weights(tmp_path / "weights.pth")


def test_a_compressed_archive_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    path = write_torch_zip(tmp_path / "weights.pth", torch_state(ARRAYS))
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("archive/data/9", "w") as member:
        for _ in range(256):
            member.write(bytes(1 << 20))
    with limits(megabytes=64), pytest.raises(WeightsError, match="compressed"):
        read_weights(path)


def test_a_pipe_is_no_weights_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "weights.pth")
    with limits(), pytest.raises(WeightsError, match="pipe"):
        read_weights(tmp_path / "weights.pth")


def test_numbers_that_repeat_or_are_narrow_are_not_taken_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expanded = Tensor(Storage("FloatStorage", np.ones(1, np.float32)), 0, (6,), (0,))
    narrow = Tensor(Storage("HalfStorage", np.ones(36, np.float16)), 0, (4, 1, 3, 3), (9, 9, 3, 1))
    first, second = ARRAYS
    path = write_torch_zip(tmp_path / "weights.pth", {first: narrow, second: expanded})
    load_weights(ArrayModel({name: array.shape for name, array in ARRAYS.items()}), path)
    assert "1 tensor of float16" in caplog.text
    assert "repeat fewer numbers" in caplog.text


@pytest.mark.parametrize(
    "damage", [{"iteration": -5}, {"iteration": 1.5}, {"mIoU": 2.0}, {"mIoU": "x"}, {"classes": 3}]
)
def test_a_checkpoint_that_says_what_cannot_be_is_refused(damage: dict[str, Any], tmp_path: Path) -> None:
    whole = {"windows": "whole", "scale": [64, 64], "size_divisor": 1, "crop": [64, 64], "stride": [64, 64]}
    record = {"model": "tiny", "dataset": "d", "nmf_rank": 16, "classes": ["a"], "palette": [[0, 0, 0]], "test": whole}
    save_weights(ARRAYS, tmp_path / "a.safetensors", metadata={"segnext": json.dumps(record)})
    assert CheckpointInfo.read(tmp_path / "a.safetensors") is not None
    save_weights(ARRAYS, tmp_path / "b.safetensors", metadata={"segnext": json.dumps(record | damage)})
    with pytest.raises(WeightsError, match="damaged description"):
        CheckpointInfo.read(tmp_path / "b.safetensors")


def test_a_description_nested_without_end_is_refused(tmp_path: Path) -> None:
    save_weights(ARRAYS, tmp_path / "a.safetensors", metadata={"segnext": "[" * 100_000})
    with limits(), pytest.raises(WeightsError, match="damaged description"):
        CheckpointInfo.read(tmp_path / "a.safetensors")


CONTAINERS: dict[str, Callable[[Path], Path]] = {
    "weights.safetensors": lambda path: save_weights(ARRAYS, path, metadata={"segnext": "{}"}),
    "weights.pkl": lambda path: save_weights(ARRAYS, path),
    "ours.pth": lambda path: save_weights(ARRAYS, path, metadata={"classes": ["a"]}),
    "weights.pth": lambda path: write_torch_zip(path, {"state_dict": torch_state(ARRAYS)}),
    "legacy.pth": lambda path: write_torch_legacy(path, torch_state(ARRAYS)),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_file_damaged_anywhere_is_read_or_refused(name: str, tmp_path: Path) -> None:
    path = CONTAINERS[name](tmp_path / name)
    whole = path.read_bytes()
    if name == "weights.pkl":
        whole = whole[:-28]  # else the checksum finds every damage
    refused = 0
    for seed in range(120):
        path.write_bytes(mutated(whole, np.random.default_rng(seed)))
        with limits():
            try:
                for array in read_weights(path).tensors.values():
                    if np.prod(array.shape, dtype=float) < 1e6:
                        array.read()
                CheckpointInfo.read(path)
            except WeightsError:
                refused += 1
    assert refused > 60
