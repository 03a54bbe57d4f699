"""Prediction: a checkpoint in, labels of any image out; and the image files that a pattern names."""

from __future__ import annotations

import glob
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segnext import backend
from segnext.data.classes import ClassTable
from segnext.data.headers import IMAGE_SUFFIXES, is_image
from segnext.data.settings import InferenceSettings
from segnext.errors import ConfigError, DataError, WeightsError
from segnext.evaluation.inference import SegmentationModel, SegmentationPredictor
from segnext.evaluation.onnx_model import Engine, OnnxModel
from segnext.models.settings import ModelSettings, Precision
from segnext.screen import shown
from segnext.weights.trained import load_trained

__all__ = ["Segmenter", "find_images", "result_names"]

logger = logging.getLogger(__name__)


class Segmenter:
    """Segments images with a trained model.

    >>> segmenter = Segmenter.from_checkpoint("outputs/tiny_ade/2025-01-01_12-00-00")
    >>> labels = segmenter.predict(image)            # (H, W, 3) uint8 RGB -> (H, W) int32
    >>> segmenter.classes.names[labels[0, 0]]

    Attributes:
        model: in evaluation mode. Predictions use its weights as they were when the segmenter was made: for others,
            make another one.
        classes: names and colours of the labels.
        predictor: how images are shown to the model.
    """

    def __init__(
        self,
        model: SegmentationModel,
        classes: ClassTable,
        *,
        settings: InferenceSettings | None = None,
        seed: int = 0,
    ) -> None:
        model.eval()
        self.model = model
        self.classes = classes
        self.predictor = SegmentationPredictor(model, settings, seed=seed)

    @classmethod
    def from_checkpoint(
        cls,
        path: str | Path,
        *,
        model: ModelSettings | str | None = None,
        classes: ClassTable | None = None,
        settings: InferenceSettings | None = None,
        tta: bool | None = None,
        device: str = "auto",
        precision: Precision | str = Precision.fp32,
        seed: int = 0,
    ) -> Segmenter:
        """Loads a weights file, the best checkpoint of a run folder, or a published one (``zoo:tiny_ade``).

        Args:
            path: our checkpoints and the zoo's are known; of a foreign file ``model`` and ``classes`` must be named.
            model: tiny, small, base or large, or the network's settings.
            classes: names and colours of the classes, for example ``segnext.data.classes.ADE``.
            settings: how images are shown to the model; the checkpoint's own, else the ADE20K test, by default.
            tta: test-time augmentation (multi-scale and flip), overrides that of the settings.
            device: ``auto``, ``cpu`` or ``cuda``.
            precision: fp32, tf32, bf16 or fp16, of the convolutions.
            seed: of the random bases.

        Raises:
            WeightsError: the file is missing, damaged, does not fit the model, or model or classes are unknown.
        """
        trained = load_trained(path, settings=model, num_classes=len(classes) if classes is not None else None)
        classes = classes or (trained.info.classes if trained.info is not None else None)
        if classes is None:
            raise WeightsError(f"{trained.path} does not say which classes it knows: name classes")
        settings = settings or (trained.info.test if trained.info is not None else InferenceSettings())
        backend.start(device)
        network = trained.build(precision=precision, seed=seed)
        return cls(network, classes, settings=settings if tta is None else replace(settings, tta=tta), seed=seed)

    @classmethod
    def from_onnx(
        cls,
        path: str | Path,
        *,
        engine: Engine | str = Engine.onnxruntime,
        settings: InferenceSettings | None = None,
        device: str = "auto",
    ) -> Segmenter:
        """Loads a file that ``runners.export`` wrote; needs neither Jittor nor a compiler.

        Args:
            path: of the file, of the kinds ``input.kind=tensor output.kind=logits``.
            engine: onnxruntime or openvino.
            settings: how images are shown to the model; as the checkpoint was tested by default.
            device: auto, cpu or cuda.

        Raises:
            ConfigError: the engine is not installed, or has no such device.
            WeightsError: the file is missing, not of ours, or the engine can't run it.
        """
        model = OnnxModel(path, engine=engine, device=device)
        return cls(model, model.info.classes, settings=settings or model.info.test)

    def predict(self, image: NDArray[np.uint8]) -> NDArray[np.int32]:
        """Labels (H, W) int32 of an image: (H, W, 3) uint8 RGB, or grey (H, W), or RGBA (alpha is dropped)."""
        return self.predictor.predict(as_rgb(image))

    def predict_proba(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class probabilities (K, H, W) float32 of an image; takes 4·K bytes a pixel."""
        return self.predictor.probabilities(as_rgb(image))

    def predict_batch(self, images: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.int32]]:
        """Labels of several images; those of one size share the passes through the model."""
        return self.predictor.predict_batch([as_rgb(image) for image in images], [""] * len(images))


def as_rgb(image: NDArray[Any]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 of a colour, grey or RGBA array; raises DataError for anything else."""
    array = np.asarray(image)
    if array.dtype != np.uint8:
        raise DataError(f"the image is {array.dtype}: give uint8 pixels from 0 to 255")
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise DataError(
            f"the image has the shape {array.shape}: give (height, width, 3) RGB, (height, width) grey or RGBA"
        )
    rgb = np.repeat(array, 3, axis=2) if array.shape[2] == 1 else array[:, :, :3]
    return np.ascontiguousarray(rgb)


def find_images(pattern: str) -> list[Path]:
    """The image files that ``pattern`` names, sorted.

    Args:
        pattern: one file, whatever its suffix; a folder, of which all files with the suffix of an image are taken,
            not those of its sub-folders; or a glob pattern, ``**`` for any depth, of which images under other names
            are taken as well. The files that are left out are named in a warning.

    Raises:
        ConfigError: there is no such file, the folder holds no images, or the pattern matches none.
    """
    path = Path(pattern).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        entries = [file for file in path.iterdir() if not file.name.startswith(".")]
    else:
        entries = [Path(match) for match in glob.glob(str(path), recursive=True)]
    entries = sorted(file for file in entries if file.is_file())
    found = [
        file for file in entries if file.suffix.lower() in IMAGE_SUFFIXES or (not path.is_dir() and is_image(file))
    ]
    if not found:
        matched = "matches no images" if glob.has_magic(pattern) else "does not exist"
        what = "holds no images" if path.is_dir() else matched
        raise ConfigError(f"input={pattern} {what}: name an image, a folder of images, or a quoted pattern")
    kept = set(found)
    if skipped := [shown(file.name) for file in entries if file not in kept]:
        more = f" and {len(skipped) - 3} more" if len(skipped) > 3 else ""
        logger.warning("skipped, since these are no images: %s%s", ", ".join(skipped[:3]), more)
    return found


def result_names(files: Sequence[Path]) -> list[str]:
    """A name for the results of each file, unique: its stem, with more of its path where stems agree."""
    parts = [(file.stem, file.name.replace(".", "_"), *reversed(file.absolute().parts[:-1])) for file in files]
    names = [part[0] for part in parts]
    for depth in range(1, max(map(len, parts))):
        counts = Counter(name.lower() for name in names)  # some file systems do not tell a from A
        if max(counts.values()) == 1:
            break
        for k, name in enumerate(names):
            if counts[name.lower()] > 1 and depth < len(parts[k]):
                names[k] = parts[k][1] if depth == 1 else f"{parts[k][depth]}_{name}".replace("/", "")
    return names
