"""A checkpoint exported, and the file used by the other commands without Jittor."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from segnext.data.classes import SHAPES
from segnext.data.settings import InferenceSettings
from segnext.evaluation.onnx_model import OnnxModel
from segnext.evaluation.predictor import Segmenter
from segnext.export.video import VideoReader, VideoWriter
from segnext.models.tensor_shapes import tensor_shapes
from segnext.weights.checkpoint import CheckpointInfo
from segnext.weights.saving import save_weights
from tests.evaluation.test_onnx_model import other_tools_file
from tests.models.drawn import drawn_tensors
from tests.weights.fakes import torch_state, write_torch_zip

REPOSITORY = Path(__file__).parents[2]
IMAGE = np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8)


def command(verb: str, *overrides: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"runners.{verb}", *overrides],
        cwd=REPOSITORY, env=os.environ | environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    info = CheckpointInfo("tiny", "shapes", SHAPES, 16, InferenceSettings(scale=None, size_divisor=1), iteration=8)
    tensors = drawn_tensors(tensor_shapes("tiny", num_classes=len(SHAPES)))
    path = tmp_path_factory.mktemp("export") / "weights.safetensors"
    return save_weights(tensors, path, metadata=info.to_metadata())


@pytest.fixture(scope="module")
def exported(checkpoint: Path) -> Path:
    target = checkpoint.with_name("model.onnx")
    done = command("export", f"checkpoint={checkpoint}", f"output={target}")
    assert done.returncode == 0, done.stderr
    assert "96×128: largest difference" in done.stdout
    assert "75×101: largest difference" in done.stdout
    assert f"wrote {target}" in done.stdout
    return target


def test_published_weights_put_into_the_zoo_by_hand_export_the_same_way(tmp_path: Path) -> None:
    arrays = drawn_tensors(tensor_shapes("tiny", num_classes=150))
    (tmp_path / "weights").mkdir()
    file = "segnext_tiny_512x512_ade_160k.pth"
    write_torch_zip(tmp_path / "weights" / file, {"state_dict": torch_state(arrays)})
    target = tmp_path / "model.onnx"
    done = command("export", "checkpoint=zoo:tiny_ade", f"output={target}", SEGNEXT_HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    model = OnnxModel(target)
    assert (model.info.dataset, len(model.info.classes)) == ("ade", 150)


@pytest.fixture(scope="module")
def no_jittor(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a machine that has neither Jittor nor a compiler."""
    folder = tmp_path_factory.mktemp("without")
    (folder / "jittor.py").write_text("raise ImportError('there is no Jittor here')\n", encoding="utf-8")
    return {"PYTHONPATH": f"{folder}:{REPOSITORY}", "PATH": ""}


def only(folder: Path, name: str) -> Path:
    (path,) = folder.rglob(name)
    return path


def test_the_exported_file_has_the_miou_of_the_evaluation_with_the_same_bases(
    checkpoint: Path, exported: Path, tmp_path: Path
) -> None:
    common = ("dataset.val_images=6", "workers=0")
    for name, overrides in {
        "jittor": (f"checkpoint={checkpoint}", "dataset.test.bases=fixed"),
        "onnxruntime": (f"checkpoint={exported}", "engine=onnxruntime"),
        "openvino": (f"checkpoint={exported}", "engine=openvino"),
    }.items():
        done = command("evaluate", *overrides, *common, f"output_dir={tmp_path / name}")
        assert done.returncode == 0, done.stderr
    scores = {
        name: json.loads(only(tmp_path / name, "metrics.json").read_text(encoding="utf-8"))["mIoU"]
        for name in ("jittor", "onnxruntime", "openvino")
    }
    assert scores["onnxruntime"] == pytest.approx(scores["jittor"], abs=1e-4)
    assert scores["openvino"] == pytest.approx(scores["jittor"], abs=1e-4)


def test_predict_needs_neither_jittor_nor_a_compiler(exported: Path, no_jittor: dict[str, str], tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "photo.png"), IMAGE[:, :, ::-1])
    done = command(
        "predict", "engine=onnxruntime", f"checkpoint={exported}", f"input={tmp_path}/photo.png",
        f"output_dir={tmp_path}", **no_jittor,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    labels = cv2.imread(str(only(tmp_path, "photo_label.png")), cv2.IMREAD_UNCHANGED)
    assert labels.shape[:2] == IMAGE.shape[:2]


def test_a_video_becomes_an_overlay_and_a_label_file_for_every_frame(
    exported: Path, no_jittor: dict[str, str], tmp_path: Path
) -> None:
    with VideoWriter(tmp_path / "clip.mp4", size=(48, 64), fps=5) as writer:
        for k in range(5):
            writer.write(np.roll(IMAGE, k, axis=1))
    done = command(
        "predict", "engine=onnxruntime", f"checkpoint={exported}", f"input={tmp_path}/clip.mp4", "label_files=true",
        f"output_dir={tmp_path / 'out'}", **no_jittor,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "5 frames at" in done.stdout
    record = json.loads(only(tmp_path / "out", "predictions.json").read_text(encoding="utf-8"))
    assert (record["frames"], record["broken"], record["interrupted"]) == (5, [], False)
    assert len(list(VideoReader(str(only(tmp_path / "out", "overlay.mp4"))))) == 5
    assert len(list((tmp_path / "out").rglob("*_label.png"))) == 5


def test_ctrl_c_ends_a_video_with_130_and_a_film_that_plays(
    exported: Path, no_jittor: dict[str, str], tmp_path: Path
) -> None:
    with VideoWriter(tmp_path / "clip.mp4", size=(256, 256), fps=5) as writer:
        for k in range(300):
            writer.write(np.full((256, 256, 3), k % 256, np.uint8))
    process = subprocess.Popen(
        [
            sys.executable, "-m", "runners.predict", "engine=onnxruntime", f"checkpoint={exported}", "label_files=true",
            f"input={tmp_path}/clip.mp4", f"output_dir={tmp_path / 'out'}",
        ],
        cwd=REPOSITORY, env=os.environ | no_jittor, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while process.poll() is None and len(list((tmp_path / "out").rglob("*_label.png"))) < 3:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, output + errors
    record = json.loads(only(tmp_path / "out", "predictions.json").read_text(encoding="utf-8"))
    assert record["interrupted"]
    assert 3 <= record["frames"] < 300
    assert len(list(VideoReader(str(only(tmp_path / "out", "overlay.mp4"))))) == record["frames"]
    assert json.loads(only(tmp_path / "out", "status.json").read_text(encoding="utf-8"))["state"] == "interrupted"


def test_the_python_interface_gives_the_same_labels_as_jittor(checkpoint: Path, exported: Path) -> None:
    expected = Segmenter.from_checkpoint(checkpoint).predict(IMAGE)
    segmenter = Segmenter.from_onnx(exported)
    np.testing.assert_array_equal(segmenter.predict(IMAGE), expected)
    assert segmenter.classes == SHAPES


def test_int8_is_calibrated_and_scored_beside_float32(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos/a.png"), IMAGE)
    done = command(
        "export", f"checkpoint={checkpoint}", f"output={tmp_path}/int8.onnx", "quantise=int8",
        f"calibration={tmp_path}/photos", "dataset.val_images=5", "workers=0",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "float32: mIoU" in done.stdout
    assert "int8: mIoU" in done.stdout
    assert OnnxModel(tmp_path / "int8.onnx").info.classes == SHAPES


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["export", "checkpoint={weights}", "output=model.pth"], "name a file that ends with .onnx"),
        (["export", "checkpoint={weights}", "output=x.onnx", "opset=9"], "opset=9 is out of range"),
        (["export", "checkpoint={weights}", "output=x.onnx", "quantise=int8"], "give both or neither"),
        (["predict", "checkpoint={onnx}", "input=photo.png"], "add engine=onnxruntime"),
        (["predict", "engine=onnxruntime", "checkpoint={weights}", "input=photo.png"], "runs exported files"),
        (["predict", "engine=onnxruntime", "checkpoint={other}", "input=photo.png"], "was not written by"),
        (["predict", "engine=onnxruntime", "checkpoint={broken}", "input=photo.png"], "is no ONNX file"),
        (["predict", "engine=onnxruntime", "checkpoint={onnx}", "input={empty}"], "has no frames that can be read"),
        (["evaluate", "engine=onnxruntime", "checkpoint={onnx}", "precision=bf16"], "computes in fp32"),
    ],
)  # fmt: skip
def test_wrong_input_ends_with_2_and_one_line_with_the_cure(
    overrides: list[str], message: str, checkpoint: Path, exported: Path, tmp_path: Path
) -> None:

    files = {"weights": checkpoint, "onnx": exported, "other": other_tools_file(tmp_path / "other.onnx")}
    for name, suffix in (("broken", "onnx"), ("empty", "mp4")):
        files[name] = tmp_path / f"{name}.{suffix}"
        files[name].write_bytes(b"nothing")
    (tmp_path / "photo.png").write_bytes(cv2.imencode(".png", IMAGE)[1].tobytes())
    arguments = [text.format(**files).replace("=photo", f"={tmp_path}/photo") for text in overrides[1:]]
    done = command(overrides[0], *arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert not (REPOSITORY / "x.onnx").exists()


def test_without_onnxruntime_the_extra_is_named(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('no module')\n", encoding="utf-8")
    cv2.imwrite(str(tmp_path / "photo.png"), IMAGE)
    done = command(
        "predict", "engine=onnxruntime", f"checkpoint={exported}", f"input={tmp_path}/photo.png",
        PYTHONPATH=f"{tmp_path}:{REPOSITORY}",
    )  # fmt: skip
    assert done.returncode == 2
    assert "pip install 'segnext-jittor[deploy]'" in done.stderr


def test_export_without_onnx_names_the_extra(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "onnx.py").write_text("raise ImportError('no module')\n", encoding="utf-8")
    done = command(
        "export", f"checkpoint={checkpoint}", f"output={tmp_path}/x.onnx", PYTHONPATH=f"{tmp_path}:{REPOSITORY}"
    )
    assert done.returncode == 2
    assert "pip install 'segnext-jittor[deploy]'" in done.stderr
