from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from segnext.data.classes import CAMVID
from segnext.data.settings import InferenceSettings
from segnext.weights.checkpoint import CheckpointInfo
from segnext.weights.file_formats import open_container
from segnext.weights.saving import save_weights
from tests.weights.fakes import FakeModel, assert_same_bits, torch_state, write_torch_zip

REPOSITORY = Path(__file__).parents[2]


def convert(*overrides: str, home: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "runners.convert", *overrides]
    environment = os.environ | ({"SEGNEXT_HOME": str(home)} if home else {})
    return subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_a_checkpoint_goes_to_mmsegmentation_and_back_bit_for_bit(tmp_path: Path) -> None:
    source = FakeModel("tiny", num_classes=len(CAMVID))
    info = CheckpointInfo("tiny", "camvid", CAMVID, 16, InferenceSettings(), iteration=8)
    first = save_weights(source, tmp_path / "a.safetensors", metadata=info.to_metadata())
    done = convert(f"input={first}", f"output={tmp_path}/b.pth", "key_format=mmseg")
    assert done.returncode == 0, done.stderr
    assert "519 tensors, read back bit for bit" in done.stdout
    meta = open_container(tmp_path / "b.pth")["meta"]
    assert meta["CLASSES"] == list(CAMVID.names)
    assert convert(f"input={tmp_path}/b.pth", f"output={tmp_path}/c.safetensors").returncode == 0
    loaded = open_container(tmp_path / "c.safetensors")
    assert_same_bits({name: tensor.read() for name, tensor in loaded.items()}, source.arrays())


def test_our_own_description_survives_in_safetensors(tmp_path: Path) -> None:
    info = CheckpointInfo("tiny", "camvid", CAMVID, 16, InferenceSettings(), iteration=8, mIoU=0.5)
    model = FakeModel("tiny", num_classes=len(CAMVID))
    save_weights(model, tmp_path / "a.safetensors", metadata=info.to_metadata())
    done = convert(f"input={tmp_path}/a.safetensors", f"output={tmp_path}/b.safetensors")
    assert done.returncode == 0, done.stderr
    assert CheckpointInfo.read(tmp_path / "b.safetensors") == info


def test_an_imagenet_backbone_put_into_the_zoo_by_hand_is_converted(tmp_path: Path) -> None:
    arrays = {k.removeprefix("backbone."): v for k, v in FakeModel("tiny").arrays().items() if "backbone" in k}
    arrays["head.weight"] = np.zeros((1000, 256), np.float32)
    (tmp_path / "weights").mkdir()
    write_torch_zip(tmp_path / "weights" / "mscan_t.pth", {"state_dict": torch_state(arrays)})
    done = convert("input=zoo:mscan_tiny", f"output={tmp_path}/b.pkl", home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "ImageNet classifier" in done.stdout
    assert f"wrote {tmp_path}/b.pkl: backbone tiny, 506 tensors" in done.stdout


def test_an_incomplete_file_is_refused_and_nothing_written(tmp_path: Path) -> None:
    arrays = FakeModel("tiny").arrays()
    del arrays["backbone.norm1.bias"]
    save_weights(arrays, tmp_path / "a.pkl")
    unknown = convert(f"input={tmp_path}/a.pkl", f"output={tmp_path}/b.pth")
    assert unknown.returncode == 2
    assert "give model=tiny, small, base or large" in unknown.stderr
    named = convert(f"input={tmp_path}/a.pkl", f"output={tmp_path}/b.pth", "model=tiny")
    assert named.returncode == 2
    assert "backbone.norm1.bias" in named.stderr
    assert not (tmp_path / "b.pth").exists()


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return os.system, (f"touch {self.path}",)


def test_a_malicious_file_executes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"model": {}, "meta": Evil(tmp_path / "executed")}))
    done = convert(f"input={tmp_path}/a.pkl", f"output={tmp_path}/b.pth")
    assert done.returncode == 2
    assert "refused to build posix.system" in done.stderr
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("overrides", [["input=x.pth"], ["input=missing.pth", "output=b.pth"]])
def test_what_is_missing_is_one_clear_line(overrides: list[str], tmp_path: Path) -> None:
    done = convert(*overrides)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_the_input_is_not_overwritten(tmp_path: Path) -> None:
    path = save_weights(FakeModel("tiny"), tmp_path / "a.pth")
    done = convert(f"input={path}", f"output={path}", "key_format=mmseg")
    assert done.returncode == 2
    assert "is the input itself" in done.stderr
