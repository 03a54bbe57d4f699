"""A tiny model with drawn weights, and the file exported from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from segnext.data.classes import ClassTable
from segnext.data.settings import InferenceSettings
from segnext.export.graph import write_onnx
from segnext.export.settings import ExportSettings
from segnext.models.segnext import SegNeXt, create_model
from segnext.models.tensor_shapes import tensor_shapes
from segnext.weights.checkpoint import CheckpointInfo
from tests.models.drawn import drawn_tensors

CLASSES = ClassTable("drawn", ("wand", "straße", "汽车"), np.array([[1, 2, 3], [40, 50, 60], [200, 0, 0]], np.uint8))
TEST = InferenceSettings(scale=None, size_divisor=1)
TENSORS = drawn_tensors(tensor_shapes("tiny", num_classes=len(CLASSES)))


def info() -> CheckpointInfo:
    return CheckpointInfo("tiny", "drawn", CLASSES, 16, TEST, iteration=7, mIoU=0.25)


def export(path: Path, settings: ExportSettings | None = None) -> Path:
    return write_onnx(TENSORS, path, info=info(), settings=settings or ExportSettings(), revision="abc")


def network() -> SegNeXt:
    model = create_model("tiny", num_classes=len(CLASSES))
    tensors = model.tensors()
    for name, array in TENSORS.items():
        tensors[name].assign(array)
    return model
