"""An exported file in evaluation: the same results as Jittor with the same bases, and clear words about wrong files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from segnext.data.settings import InferenceSettings
from segnext.errors import ConfigError, WeightsError
from segnext.evaluation.inference import SegmentationPredictor, evaluation_mode
from segnext.evaluation.onnx_model import OnnxModel
from segnext.export.settings import ExportSettings, OutputKind, OutputSettings
from tests.export.drawn_model import CLASSES, export, network

IMAGE = np.random.default_rng(0).integers(0, 256, (45, 61, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("onnx") / "model.onnx", ExportSettings(seed=3))


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_labels_are_those_of_jittor_with_the_same_bases(engine: str, file: Path) -> None:
    settings = InferenceSettings(scale=(96, 64), size_divisor=32)
    model = network()
    with evaluation_mode(model):
        expected = SegmentationPredictor(model, settings, seed=3).predict(IMAGE)
    actual = SegmentationPredictor(OnnxModel(file, engine=engine), settings).predict(IMAGE)
    assert actual.dtype == expected.dtype == np.int32
    np.testing.assert_array_equal(actual, expected)


def test_the_file_says_what_it_was_trained_as(file: Path) -> None:
    for engine in ("onnxruntime", "openvino"):
        model = OnnxModel(file, engine=engine)
        assert (model.info.model, model.info.classes, model.info.mIoU, model.seed) == ("tiny", CLASSES, 0.25, 3)
        np.testing.assert_array_equal(model.info.classes.palette, CLASSES.palette)


def test_neither_jittor_nor_a_compiler_is_needed(file: Path, tmp_path: Path) -> None:
    (tmp_path / "jittor.py").write_text("raise ImportError('there is no Jittor here')\n", encoding="utf-8")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import numpy as np\n"
        "from segnext.evaluation.inference import SegmentationPredictor\n"
        "from segnext.evaluation.onnx_model import OnnxModel\n"
        f"labels = SegmentationPredictor(OnnxModel({str(file)!r})).predict(np.zeros((64, 64, 3), np.uint8))\n"
        "print(labels.shape)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PATH": ""}, check=False)
    assert (result.stdout, result.returncode) == ("(64, 64)\n", 0), result.stderr


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"gone\.onnx does not exist"):
        OnnxModel(tmp_path / "gone.onnx")


def test_a_file_that_is_no_onnx_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"hello")
    with pytest.raises(WeightsError, match="cannot be run by onnxruntime") as error:
        OnnxModel(tmp_path / "x.onnx")
    assert "\n" not in str(error.value)


def other_tools_file(path: Path, *, opset: int = 17) -> Path:
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])],
        "other",
        [value("x", onnx.TensorProto.FLOAT, (1, 3))],
        [value("y", onnx.TensorProto.FLOAT, (1, 3))],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=10)
    onnx.save(model, path)
    return path


def test_a_file_of_another_tool_is_refused(tmp_path: Path) -> None:
    for engine in ("onnxruntime", "openvino"):
        with pytest.raises(WeightsError, match=r"was not written by runners\.export"):
            OnnxModel(other_tools_file(tmp_path / "x.onnx"), engine=engine)


def test_an_opset_that_the_engine_does_not_know_is_refused_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="lower opset="):
        OnnxModel(other_tools_file(tmp_path / "x.onnx", opset=99))


def test_damaged_metadata_are_refused(file: Path, tmp_path: Path) -> None:
    model = onnx.load(file)
    next(entry for entry in model.metadata_props if entry.key == "segnext").value = "{}"
    onnx.save(model, tmp_path / "x.onnx")
    with pytest.raises(WeightsError, match="damaged description"):
        OnnxModel(tmp_path / "x.onnx")


def test_a_file_for_other_programs_is_refused_with_the_cure(tmp_path: Path) -> None:
    path = export(tmp_path / "x.onnx", ExportSettings(output=OutputSettings(kind=OutputKind.labels)))
    with pytest.raises(WeightsError, match=r"export it with input\.kind=tensor output\.kind=logits"):
        OnnxModel(path)


def test_an_image_of_another_size_than_the_files_is_refused(tmp_path: Path) -> None:
    path = export(tmp_path / "x.onnx", ExportSettings(size=(64, 96)))
    for engine in ("onnxruntime", "openvino"):
        with pytest.raises(WeightsError, match=r"takes no input of 45×61 pixels"):
            SegmentationPredictor(
                OnnxModel(path, engine=engine), InferenceSettings(scale=None, size_divisor=1)
            ).predict(IMAGE)


def test_an_engine_that_is_not_installed_is_named_with_the_command_that_installs_it(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"pip install 'segnext-jittor\[deploy\]'"):
        OnnxModel(file)
