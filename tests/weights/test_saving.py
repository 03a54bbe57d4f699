"""Saved weights come back bit for bit, and a file is whole or not there."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from segnext.errors import WeightsError
from segnext.weights.file_formats import open_container
from segnext.weights.loading import load_weights
from segnext.weights.saving import save_weights
from tests.weights.fakes import FakeModel, assert_same_bits


@pytest.mark.parametrize(
    ("file", "key_format"),
    [("x.safetensors", "official"), *((f"x.{kind}", way) for kind in ("pkl", "pth") for way in ("official", "mmseg"))],
)
def test_a_round_trip_is_exact_in_every_container_and_spelling(file: str, key_format: str, tmp_path: Path) -> None:
    source, model = FakeModel("tiny", seed=1), FakeModel("tiny", seed=2)
    assert load_weights(model, save_weights(source, tmp_path / file, key_format=key_format)).complete
    assert_same_bits(model.arrays(), source.arrays())


def test_special_values_and_shapes_survive(tmp_path: Path) -> None:
    arrays = {
        "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "strided": np.arange(8, dtype=np.float32)[::2],
        "scalar": np.array(-0.0, np.float32),
        "tiny": np.array([1e-45, -0.0, 3.4e38], np.float32),
    }
    for suffix in ("safetensors", "pkl", "pth"):
        loaded = open_container(save_weights(arrays, tmp_path / f"x.{suffix}"))
        loaded = loaded.get("state_dict", loaded)
        assert_same_bits({name: tensor.read() for name, tensor in loaded.items()}, arrays)


def test_safetensors_hold_official_names_and_the_metadata_as_text(tmp_path: Path) -> None:
    source = FakeModel("tiny")
    metadata = {"model": "tiny", "classes": ["road", "sky"], "segnext": json.dumps({"iteration": 8})}
    path = save_weights(source, tmp_path / "x.safetensors", metadata=metadata)
    assert_same_bits(load_file(path), source.arrays())
    with safe_open(path, framework="numpy") as file:
        assert file.metadata() == {"model": "tiny", "classes": '["road", "sky"]', "segnext": '{"iteration": 8}'}


def test_a_jittor_pickle_is_a_bare_dict_of_arrays_with_jittors_checksum(tmp_path: Path) -> None:
    source = FakeModel("tiny")
    content = save_weights(source, tmp_path / "x.pkl").read_bytes()
    program, checksum, mark = content[:-28], content[-28:-8], content[-8:]
    assert mark == b"HCAJSLHD"
    assert checksum == hashlib.sha1(program).digest()
    assert_same_bits(pickle.loads(program), source.arrays())


def test_a_pytorch_file_has_batch_counters_and_what_mmsegmentation_looks_for(tmp_path: Path) -> None:
    metadata = {"classes": ["road", "sky"], "palette": np.array([[1, 2, 3], [4, 5, 6]], np.uint8), "mIoU": 0.5}
    content = open_container(save_weights(FakeModel("tiny"), tmp_path / "x.pth", key_format="mmseg", metadata=metadata))
    state, meta = content["state_dict"], content["meta"]
    assert len(state) == 550
    assert "backbone.block1.0.mlp.dwconv.weight" in state
    assert state["backbone.block1.0.norm1.num_batches_tracked"].read() == 0
    assert meta["CLASSES"] == ["road", "sky"]
    assert meta["PALETTE"] == [[1, 2, 3], [4, 5, 6]]
    assert meta["dataset_meta"] == {"classes": meta["CLASSES"], "palette": meta["PALETTE"]}
    assert meta["mIoU"] == 0.5


def test_equal_weights_make_equal_files(tmp_path: Path) -> None:
    for suffix in ("safetensors", "pkl", "pth"):
        first = save_weights(FakeModel("tiny"), tmp_path / "a" / f"x.{suffix}").read_bytes()
        assert save_weights(FakeModel("tiny"), tmp_path / "b" / f"x.{suffix}").read_bytes() == first


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_weights({"a": np.ones(1, np.float32)}, tmp_path / "x.pkl")
    old = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WeightsError, match=r"cannot write .*x\.pkl \(No space left on device\)"):
        save_weights({"a": np.zeros(1, np.float32)}, path)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_is_readable_by_others_as_the_umask_allows(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        path = save_weights({"a": np.ones(1, np.float32)}, tmp_path / "x.pkl")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("file", "key_format", "message"),
    [
        ("x.onnx", "official", r"one of the suffixes \.safetensors, \.pkl, \.pth"),
        ("x.pth", "keras", "key_format=keras is unknown"),
        ("x.safetensors", "mmseg", "keep the official names"),
    ],
)
def test_what_cannot_be_written_is_refused_before_writing(
    file: str, key_format: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match=message):
        save_weights({"a": np.ones(1, np.float32)}, tmp_path / file, key_format=key_format)
    assert list(tmp_path.iterdir()) == []


def test_other_numbers_than_float32_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="a is float64"):
        save_weights({"a": np.ones(1)}, tmp_path / "x.pkl")
