"""Exported models as contestants of the benchmark."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from segnext.data.classes import ClassTable
from segnext.data.settings import InferenceSettings
from segnext.evaluation.dense import DenseLogits, strips
from segnext.evaluation.onnx_model import Engine, OnnxModel
from segnext.export.graph import write_onnx
from segnext.export.settings import ExportSettings
from segnext.models.settings import ModelSettings
from segnext.models.tensor_shapes import tensor_shapes
from segnext.weights.checkpoint import CheckpointInfo

__all__ = ["ExportedInference", "exported_models"]


class ExportedInference:
    """Logits of a batch (B,3,H,W), and their best class at full resolution, as predict does it."""

    def __init__(self, model: OnnxModel, images: NDArray[np.float32]) -> None:
        self._model, self._images = model, images

    def __call__(self) -> float:
        """Returns the seconds that the batch took."""
        start = time.perf_counter()
        self.labels()
        return time.perf_counter() - start

    def labels(self) -> list[NDArray[np.int32]]:
        """(H,W) of every image."""
        height, width = self._images.shape[2:]
        arrays = self._model.arrays
        result = []
        for logits in self._model(self._images):
            dense = DenseLogits(height, width, (height, width), parts=[(0, 0, logits)], arrays=arrays)
            rows = max(1, arrays.strip_floats // (width * len(logits)))
            parts = [arrays.best_class(dense.strip((height, width), *strip)) for strip in strips(height, rows)]
            result.append(np.concatenate(parts))
        return result


def exported_models(engines: Sequence[Engine | str], model: ModelSettings, *, num_classes: int) -> dict[str, OnnxModel]:
    """A model with drawn weights, exported with free sizes, by the name of each of ``engines``.

    Raises:
        ConfigError: an engine is not installed.
    """
    if not engines:
        return {}
    palette = np.zeros((num_classes, 3), np.uint8)
    classes = ClassTable("drawn", tuple(str(number) for number in range(num_classes)), palette)
    info = CheckpointInfo(model.name, "drawn", classes, model.nmf_rank, InferenceSettings())
    rng = np.random.default_rng(0)
    tensors = {
        name: _drawn(rng, name, shape) for name, shape in tensor_shapes(model.name, num_classes=num_classes).items()
    }
    with TemporaryDirectory() as folder:
        file = write_onnx(tensors, Path(folder) / "model.onnx", info=info, settings=ExportSettings())
        return {Engine(name).value: OnnxModel(file, engine=name, device="cpu") for name in engines}


def _drawn(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    if len(shape) > 1:
        return rng.standard_normal(shape, dtype=np.float32) / np.float32(math.sqrt(math.prod(shape[1:])))
    return np.full(shape, 0 if name.endswith(("bias", "running_mean")) else 1, np.float32)
