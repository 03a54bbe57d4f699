"""Checkpoints that describe themselves, and finding the one a user means."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from segnext.data.classes import CAMVID
from segnext.data.settings import InferenceSettings, Windows
from segnext.errors import WeightsError
from segnext.evaluation.inference import input_size
from segnext.weights.checkpoint import METADATA_KEY, CheckpointInfo, open_checkpoint
from segnext.weights.zoo import ZOO

SETTINGS = InferenceSettings(windows=Windows.slide, scale=(480, 360), crop=(352, 480), stride=(200, 300))
INFO = CheckpointInfo(
    model="tiny",
    dataset="camvid",
    classes=CAMVID,
    nmf_rank=16,
    test=SETTINGS,
    iteration=100,
    mIoU=0.5,
    image_range=(0, 4095),
)


def save(path: Path, metadata: dict[str, str] | None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"x": np.zeros(1, np.float32)}, path, metadata=metadata)
    return path


def test_what_a_checkpoint_says_of_itself_is_read_back(tmp_path: Path) -> None:
    info = CheckpointInfo.read(save(tmp_path / "a.safetensors", INFO.to_metadata()))
    assert info is not None
    assert (info.model, info.dataset, info.nmf_rank, info.iteration, info.mIoU) == ("tiny", "camvid", 16, 100, 0.5)
    assert info.test == SETTINGS
    assert info.image_range == (0, 4095)
    assert info.classes.names == CAMVID.names
    assert np.array_equal(info.classes.palette, CAMVID.palette)


def test_a_foreign_file_says_nothing(tmp_path: Path) -> None:
    assert CheckpointInfo.read(save(tmp_path / "a.safetensors", None)) is None
    (tmp_path / "b.pth").write_bytes(b"anything")
    assert CheckpointInfo.read(tmp_path / "b.pth") is None


@pytest.mark.parametrize("text", ["{", "[]", '{"model": "tiny"}'])
def test_a_damaged_description_is_an_error_that_names_the_file(tmp_path: Path, text: str) -> None:
    path = save(tmp_path / "a.safetensors", {METADATA_KEY: text})
    with pytest.raises(WeightsError, match=r"a\.safetensors has a damaged description"):
        CheckpointInfo.read(path)


def test_a_file_that_is_no_safetensors_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"hello")
    with pytest.raises(WeightsError, match=r"a\.safetensors is no safetensors file"):
        CheckpointInfo.read(tmp_path / "a.safetensors")


def test_of_a_run_folder_the_best_checkpoint_is_taken_before_the_latest(tmp_path: Path) -> None:
    latest = save(tmp_path / "checkpoints/latest.safetensors", None)
    assert open_checkpoint(tmp_path) == (latest, None)
    best = save(tmp_path / "checkpoints/best.safetensors", None)
    assert open_checkpoint(tmp_path) == (best, None)
    assert open_checkpoint(tmp_path / "checkpoints")[0] == best
    assert open_checkpoint(latest)[0] == latest


def test_a_missing_file_and_an_empty_run_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"nothing\.pth does not exist"):
        open_checkpoint(tmp_path / "nothing.pth")
    with pytest.raises(WeightsError, match="holds no checkpoints"):
        open_checkpoint(tmp_path)


def test_a_published_checkpoint_is_known_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGNEXT_HOME", str(tmp_path))
    file = tmp_path / "weights" / ZOO["base_cityscapes"].files[0].name
    file.parent.mkdir()
    file.write_bytes(b"put there by hand")
    path, info = open_checkpoint("zoo:base_cityscapes")
    assert path == file
    assert info is not None
    assert (info.model, info.dataset, info.nmf_rank, len(info.classes)) == ("base", "cityscapes", 64, 19)
    assert info.test.windows == "slide"
    assert input_size(info.test, 1024, 2048, 1.0) == (1024, 2048)


def test_a_published_backbone_is_no_checkpoint_to_segment_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGNEXT_HOME", str(tmp_path))
    file = tmp_path / "weights" / ZOO["mscan_tiny"].files[0].name
    file.parent.mkdir()
    file.write_bytes(b"put there by hand")
    with pytest.raises(WeightsError, match="is a backbone"):
        open_checkpoint("zoo:mscan_tiny")
