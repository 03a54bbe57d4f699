"""An exported file with convolutions in eight bits, by ONNX Runtime's static quantisation.

The convolutions' inputs and weights are quantised; the matrix factorisation, softmax, norms, GELU and all sums stay
float32. The ranges are those that the calibration images show.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from segnext.data.augmentation import normalize
from segnext.data.reading import read_image
from segnext.data.settings import InferenceSettings
from segnext.errors import ConfigError, ExportError
from segnext.evaluation.inference import resize_for_test, window_places
from segnext.files import write_atomically

__all__ = ["calibration_inputs", "quantise"]


class _Reader(CalibrationDataReader):
    def __init__(self, inputs: Iterator[NDArray[Any]], name: str) -> None:
        self._inputs, self._name = inputs, name

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return next(({self._name: x} for x in self._inputs), None)


def quantise(source: Path, target: Path, *, inputs: Iterator[NDArray[np.float32]], keep: Sequence[str] = ()) -> Path:
    """Writes ``source`` with quantised convolutions to ``target``; metadata are kept.

    Args:
        inputs: what ``source`` takes, from the calibration images.
        keep: names of convolutions that stay float32.

    Raises:
        ConfigError: there are no inputs.
    """
    first = next(inputs, None)
    if first is None:
        raise ConfigError("calibration: there are no images to calibrate with")
    model = onnx.load(source)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    with TemporaryDirectory() as folder:
        quantised = Path(folder) / "quantised.onnx"
        quantize_static(
            source,
            quantised,
            _Reader(chain([first], inputs), model.graph.input[0].name),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=list(keep),
            per_channel=True,
            reduce_range=True,  # without VNNI, products of two full bytes overflow in pairs
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        result = onnx.load(quantised)
    onnx.helper.set_model_props(result, metadata | {"quantised": "int8"})
    write_atomically(target, result.SerializeToString(), error=ExportError)
    return target


def calibration_inputs(
    files: Sequence[Path], settings: InferenceSettings, *, count: int
) -> Iterator[NDArray[np.float32]]:
    """Up to ``count`` of the images, spread evenly, as the test shows them to the model: (1,3,H,W)."""
    chosen = np.unique(np.linspace(0, len(files) - 1, min(count, len(files))).astype(int)) if files else []
    for number in chosen:
        image = read_image(files[number])
        view = resize_for_test(image, settings, 1.0)
        top, bottom, left, right = window_places(settings, view.shape[0], view.shape[1])[0]
        yield normalize(np.ascontiguousarray(view[top:bottom, left:right]))[None]
