"""Eight bits for the convolutions, and for nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from segnext.errors import ConfigError
from segnext.evaluation.onnx_model import OnnxModel
from segnext.export.quantise import quantise
from tests.export.drawn_model import CLASSES, export
from tests.models.drawn import drawn_images


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("int8")
    full = export(folder / "full.onnx")
    images = (drawn_images((1, 3, 64, 64 + 32 * seed), seed) for seed in range(2))
    return full, quantise(full, folder / "int8.onnx", inputs=images)


def test_the_file_shrinks_and_gives_nearly_the_same_logits(files: tuple[Path, Path]) -> None:
    full, small = files
    assert small.stat().st_size < 0.4 * full.stat().st_size
    images = drawn_images((1, 3, 64, 64), 0)
    expected, actual = (OnnxModel(path)(images) for path in files)
    assert 1e-4 < np.abs(actual - expected).max() / np.abs(expected).max() < 0.2


def test_the_file_keeps_its_metadata(files: tuple[Path, Path]) -> None:
    assert OnnxModel(files[1]).info.classes == CLASSES


def test_only_convolutions_are_quantised(files: tuple[Path, Path]) -> None:
    graph = onnx.load(files[1]).graph
    quantised = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    readers = {node.op_type for node in graph.node if quantised & set(node.input)}
    assert "MatMul" not in readers
    assert "Softmax" not in readers
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert all({node.input[0], node.input[1]} <= quantised for node in convolutions)


def test_a_folder_without_images_is_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there are no images to calibrate with"):
        quantise(files[0], tmp_path / "x.onnx", inputs=iter(()))
