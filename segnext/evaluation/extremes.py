"""The images that an evaluation got best and worst, kept to be looked at: ``extremes/`` beside its tables.

``extremes.json`` lists them, the best first; per image a photo, truth, prediction and confidence, with long sides of
at most 640 pixels.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segnext.data.datasets import Dataset
from segnext.data.settings import InferenceSettings
from segnext.errors import TrainingError
from segnext.evaluation.evaluator import EvaluationResult
from segnext.evaluation.inference import SegmentationPredictor, evaluation_mode
from segnext.files import read_json, strict_json, write_atomically
from segnext.plots.overlays import label_png
from segnext.screen import shown
from segnext.tracking.images import ValidationImage

__all__ = ["Extreme", "read_extremes", "write_extremes"]

_LONG_SIDE = 640
_FOLDER, _LIST = "extremes", "extremes.json"


@dataclass(frozen=True)
class Extreme:
    """One image: its name, its own mean IoU (a fraction), whether it is among the best, and its files' common stem."""

    name: str
    mIoU: float
    best: bool
    stem: str

    def load(self, folder: Path) -> tuple[ValidationImage, NDArray[np.uint8]]:
        """The image with its labels, and the confidence (H, W) as 0 to 255; OSError when a file is missing."""
        place = folder / _FOLDER

        def read(part: str, mode: str | None = None) -> NDArray[np.uint8]:
            with Image.open(place / f"{self.stem}_{part}") as image:
                return np.asarray(image.convert(mode) if mode else image)

        labels = read("truth.png"), read("prediction.png")
        return ValidationImage(self.name, read("image.jpg", "RGB"), *labels), read("confidence.png", "L")


def write_extremes(
    folder: Path,
    model: Any,
    dataset: Dataset,
    result: EvaluationResult,
    *,
    settings: InferenceSettings,
    count: int,
    seed: int = 0,
) -> None:
    """Predicts ``count`` best and ``count`` worst images once more, and keeps them in ``folder``.

    Args:
        result: of the first images of ``dataset``.
        settings, seed: those of the evaluation.

    Raises:
        TrainingError: the files cannot be written.
    """
    place = folder / _FOLDER
    shutil.rmtree(place, ignore_errors=True)  # of an earlier evaluation
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(place, error) from error
    kept: list[dict[str, Any]] = []
    with evaluation_mode(model):
        predictor = SegmentationPredictor(model, settings, seed=seed)
        for best, index, miou in _chosen(result.per_image.mIoU(), count):
            name, sample = dataset.name(index), dataset.read(index)
            labels, confidence = predictor.predict_with_confidence(sample.image, name)
            extreme = Extreme(shown(name), miou, best, f"{len(kept):02}")
            _store(place / extreme.stem, ValidationImage(name, sample.image, sample.label, labels), confidence, dataset)
            kept.append(asdict(extreme))
    write_atomically(place / _LIST, strict_json(kept, indent=2) + "\n")


def read_extremes(folder: Path) -> list[Extreme]:
    """What ``write_extremes`` left in ``folder``; nothing where the list is missing or damaged."""
    try:
        return [_checked(record) for record in read_json(folder / _FOLDER / _LIST)]
    except (OSError, ValueError, TypeError):
        return []


def _checked(record: dict[str, Any]) -> Extreme:
    extreme = Extreme(**record)
    if not (isinstance(extreme.name, str) and isinstance(extreme.mIoU, float) and 0 <= extreme.mIoU <= 1):
        raise ValueError("no name or no fraction")
    if not isinstance(extreme.stem, str) or not extreme.stem.isdigit():
        raise ValueError("a stem is a number")
    return extreme


def _chosen(miou: NDArray[np.float64], count: int) -> Sequence[tuple[bool, int, float]]:
    """(best, index, mIoU): the best images first, the worst last; none twice."""
    order = [int(index) for index in np.argsort(-miou, kind="stable") if not np.isnan(miou[index])]
    best = order[:count]
    worst = order[len(best) :][-count:] if count else []
    return [(chosen is best, index, float(miou[index])) for chosen in (best, worst) for index in chosen]


def _store(stem: Path, image: ValidationImage, confidence: NDArray[np.float32], dataset: Dataset) -> None:
    small, palette = image.shrunk(_LONG_SIDE), dataset.classes.palette
    height, width = small.truth.shape
    grey = cv2.resize(np.rint(255 * confidence).astype(np.uint8), (width, height), interpolation=cv2.INTER_AREA)
    try:
        Image.fromarray(small.image).save(f"{stem}_image.jpg", quality=88)
        label_png(small.truth, palette).save(f"{stem}_truth.png")
        label_png(small.prediction.astype(np.uint8), palette).save(f"{stem}_prediction.png")
        Image.fromarray(np.asarray(grey, np.uint8)).save(f"{stem}_confidence.png")
    except OSError as error:
        raise _unwritable(stem.parent, error) from error


def _unwritable(place: Path, error: OSError) -> TrainingError:
    return TrainingError(f"cannot write {place} ({error.strerror}): free disk space, then resume or evaluate again")
