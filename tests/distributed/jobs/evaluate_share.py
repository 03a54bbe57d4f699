"""An evaluation of seven drawn images of two sizes, alone or as several ranks: ``python evaluate_share.py FILE``.

Every rank holds the whole result; the last one writes it to FILE.
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

from segnext import backend
from segnext.data.catalog import create_dataset
from segnext.data.datasets import Dataset, Sample
from segnext.data.settings import InferenceSettings
from segnext.distributed.communicator import Communicator

jt = backend.start("cpu")

from segnext.evaluation.evaluator import evaluate_distributed  # noqa: E402
from segnext.models.segnext import create_model  # noqa: E402


class TwoSizes:
    """The drawn shapes, every third of them cut to half its height."""

    def __init__(self, inner: Dataset) -> None:
        self._inner = inner
        self.classes = inner.classes

    def __len__(self) -> int:
        return len(self._inner)

    def name(self, index: int) -> str:
        return self._inner.name(index)

    def read(self, index: int) -> Sample:
        sample = self._inner.read(index)
        height = sample.label.shape[0] // (2 if index % 3 == 2 else 1)
        return Sample(sample.image[:height], sample.label[:height])


dataset = TwoSizes(create_dataset("shapes", split="val", image_size=(64, 64), val_images=7))
model = create_model("tiny", num_classes=len(dataset.classes), seed=3)
communicator = Communicator.join()
seen: list[int] = []


def keep(index: int, sample: Sample, prediction: NDArray[np.int32]) -> None:
    seen.append(index)


result = evaluate_distributed(
    communicator,
    model,
    dataset,
    settings=InferenceSettings(scale=None, size_divisor=1, window_batch=2),
    count=len(dataset),
    workers=0,
    boundary=True,
    on_prediction=keep,
)
everyone = communicator.all_gather(seen)
if communicator.world.rank == communicator.size - 1:
    np.savez(
        sys.argv[1],
        matrix=result.confusion.matrix,
        names=np.array(result.per_image.names),
        intersection=result.per_image.intersection,
        boundary=result.boundary.counts,
        images=np.array([len(part) for part in everyone]),
    )
