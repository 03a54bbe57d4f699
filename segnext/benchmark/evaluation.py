"""A whole evaluation as a workload: files in, confusion matrix out."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2

from segnext import complexity
from segnext.data.datasets import Dataset, FileDataset, FilePair
from segnext.data.headers import read_header
from segnext.data.settings import InferenceSettings
from segnext.evaluation.evaluator import evaluate
from segnext.evaluation.inference import SegmentationModel, input_size, window_places
from segnext.models.settings import ModelSettings

__all__ = ["Evaluation", "as_files", "evaluation_macs"]


class Evaluation:
    """``runners.evaluate`` without its tables: decode, resize, predict, count; the workers' start included."""

    def __init__(
        self, model: SegmentationModel, dataset: Dataset, settings: InferenceSettings, *, workers: int
    ) -> None:
        self._model, self._dataset, self._settings, self._workers = model, dataset, settings, workers

    def __call__(self) -> float:
        """Returns the seconds that all images took."""
        start = time.perf_counter()
        evaluate(self._model, self._dataset, settings=self._settings, workers=self._workers)
        return time.perf_counter() - start


@contextmanager
def as_files(dataset: Dataset) -> Iterator[FileDataset]:
    """``dataset``; one that is drawn, as PNG files that are gone in the end."""
    if isinstance(dataset, FileDataset):
        yield dataset
        return
    with TemporaryDirectory() as folder:
        pairs = []
        for index in range(len(dataset)):
            name, sample = dataset.name(index), dataset.read(index)
            pairs.append(FilePair(name, f"{name}.png", f"{name}_label.png"))
            cv2.imwrite(str(Path(folder, pairs[-1].image)), cv2.cvtColor(sample.image, cv2.COLOR_RGB2BGR))
            cv2.imwrite(str(Path(folder, pairs[-1].label)), sample.label)
        yield FileDataset(dataset.classes, folder, tuple(pairs))


def evaluation_macs(model: ModelSettings, files: FileDataset, settings: InferenceSettings, *, num_classes: int) -> int:
    """Multiply-accumulates of all windows of all passes of all images."""
    headers = [read_header(files.image_path(number)) for number in range(len(files))]
    inputs: Counter[tuple[int, int]] = Counter()
    for header in headers:
        for ratio, _ in settings.passes:
            size = input_size(settings, header.height, header.width, ratio)
            inputs.update((bottom - top, right - left) for top, bottom, left, right in window_places(settings, *size))
    macs = {
        size: complexity(
            model.name, num_classes=num_classes, height=size[0], width=size[1], nmf_rank=model.nmf_rank
        ).macs
        for size in inputs
    }
    return int(sum(count * macs[size] for size, count in inputs.items()))
