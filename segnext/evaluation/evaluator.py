"""Evaluates a model on a dataset, in one process or by all ranks of a run: images in, exact counts out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segnext.data.datasets import Dataset, Sample
from segnext.data.loader import EvaluationLoader
from segnext.data.settings import InferenceSettings
from segnext.distributed.communicator import Communicator
from segnext.errors import DataError, SegNeXtError
from segnext.evaluation.arrays import arrays_of
from segnext.evaluation.boundary import BoundaryIoU
from segnext.evaluation.inference import (
    SegmentationModel,
    SegmentationPredictor,
    evaluation_mode,
)
from segnext.evaluation.metrics import ConfusionMatrix, Counts, PerImageCounts, Scores
from segnext.settings import require

__all__ = ["EvaluationResult", "EvaluationSettings", "evaluate", "evaluate_distributed", "merge", "share_of"]


@dataclass
class EvaluationSettings:
    """What is evaluated and what comes of it.

    Attributes:
        max_images: the first so many images of the split; null: all
        repeats: evaluations with other random NMF bases, for mean and spread
        boundary: count boundary IoU as well
        submission: write the benchmark's files, zipped (ade, cityscapes)
        extremes: so many of the best and as many of the worst images are kept to be looked at
    """

    max_images: int | None = None
    repeats: int = 1
    boundary: bool = False
    submission: bool = False
    extremes: int = 3

    def __post_init__(self) -> None:
        require(self.repeats >= 1, "evaluation.repeats", self.repeats, "at least 1")
        require(0 <= self.extremes <= 50, "evaluation.extremes", self.extremes, "0 to 50")
        if self.max_images is not None:
            require(self.max_images >= 1, "evaluation.max_images", self.max_images, "at least 1")

    def count(self, images: int) -> int:
        """How many of ``images`` are evaluated."""
        return min(images, self.max_images or images)


@dataclass(frozen=True)
class EvaluationResult:
    """What an evaluation counted.

    Attributes:
        confusion: pixels by label and prediction, over all images.
        per_image: pixels per class of every image, for paired comparisons.
        boundary: counts along the contours, when asked for.
        seconds, timed_images: wall time and number of images after the first group, whose time goes into
            compiling kernels and starting workers.
    """

    confusion: ConfusionMatrix
    per_image: PerImageCounts
    boundary: BoundaryIoU | None
    seconds: float
    timed_images: int

    @property
    def scores(self) -> Scores:
        return self.confusion.scores()

    @property
    def images(self) -> int:
        return len(self.per_image.names)

    @property
    def images_per_second(self) -> float:
        """Speed after the first group of images, reading and scoring included; nan when there was no second group."""
        return self.timed_images / self.seconds if self.timed_images and self.seconds > 0 else float("nan")


def evaluate(
    model: SegmentationModel,
    dataset: Dataset,
    *,
    settings: InferenceSettings | None = None,
    seed: int = 0,
    repeat: int = 0,
    indices: Sequence[int] | None = None,
    workers: int = 2,
    boundary: bool = False,
    progress: Callable[[int, int], None] | None = None,
    on_prediction: Callable[[int, Sample, NDArray[np.int32]], None] | None = None,
) -> EvaluationResult:
    """Predicts every image of ``dataset`` and counts; puts the model into evaluation mode meanwhile.

    Args:
        settings: how images are shown to the model; the ADE20K test by default.
        seed, repeat: choose the random bases, per image; the same values give the same result.
        indices: the images to evaluate; all by default.
        workers: processes that read images ahead; 0 reads in this one.
        boundary: count boundary IoU as well.
        progress: called with (images done, images in all) after every group of images.
        on_prediction: called with index, sample and predicted labels (H, W) of every image, in order.

    Raises:
        DataError: an image or label is broken, or there are no images.
    """
    classes = len(dataset.classes)
    chosen = range(len(dataset)) if indices is None else indices
    if not len(chosen):
        raise DataError("there are no images to evaluate: check the split and the indices")
    settings = settings or InferenceSettings()
    confusion = ConfusionMatrix(classes)
    contours = BoundaryIoU(classes) if boundary else None
    names: list[str] = []
    counts: list[Counts] = []
    started, untimed = time.perf_counter(), 0
    with evaluation_mode(model), EvaluationLoader(dataset, indices=chosen, workers=workers) as loader:
        # Made in here: what it folds would stay frozen, if evaluation mode had not noted before what is trained.
        predictor = SegmentationPredictor(model, settings, seed=seed, repeat=repeat)
        shape: tuple[int, ...] = ()
        for group in _same_size(loader, settings.window_batch):
            if group[0][1].image.shape != shape:
                shape = group[0][1].image.shape
                arrays_of(model).release_memory()  # equal images use the same blocks again, others would add theirs
            group_names = [dataset.name(index) for index, _ in group]
            predictions = predictor.predict_batch([sample.image for _, sample in group], group_names)
            for (index, sample), name, prediction in zip(group, group_names, predictions, strict=True):
                names.append(name)
                counts.append(confusion.update(prediction, sample.label))
                if contours is not None:
                    contours.update(prediction, sample.label)
                if on_prediction is not None:
                    on_prediction(index, sample, prediction)
            if not untimed:
                started, untimed = time.perf_counter(), len(names)
            if progress is not None:
                progress(len(names), len(chosen))
    return EvaluationResult(
        confusion=confusion,
        per_image=PerImageCounts.stack(names, counts, num_classes=classes),
        boundary=contours,
        seconds=time.perf_counter() - started,
        timed_images=len(names) - untimed,
    )


def merge(results: Sequence[EvaluationResult], *, names: Sequence[str]) -> EvaluationResult:
    """Joins the results of several ranks (disjoint ``indices``); the slowest rank's time counts.

    Args:
        names: of all images, in the order that the scores per image are to have.
    """
    confusion = ConfusionMatrix(results[0].confusion.num_classes)
    first = results[0].boundary
    contours = BoundaryIoU(first.num_classes, ratio=first.ratio) if first is not None else None
    for result in results:
        confusion.merge(result.confusion)
        if contours is not None and result.boundary is not None:
            contours.merge(result.boundary)
    return EvaluationResult(
        confusion=confusion,
        per_image=PerImageCounts.join([result.per_image for result in results]).in_order(names),
        boundary=contours,
        seconds=max(result.seconds for result in results),
        timed_images=sum(result.timed_images for result in results),
    )


def evaluate_distributed(
    communicator: Communicator,
    model: Any,
    dataset: Dataset,
    *,
    settings: InferenceSettings,
    count: int,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> EvaluationResult:
    """The result, on every rank, of the first ``count`` images of ``dataset``, of which this rank evaluates a share.

    Args:
        progress: called with about how many images all ranks have done, and ``count``.
        options: others of ``evaluate``; ``on_prediction`` is called for the images of this rank's share.
    """
    share = share_of(count, block=settings.window_batch, rank=communicator.world.rank, size=communicator.size)

    def report(done: int, _: int) -> None:
        communicator.hang_timer.reset("evaluating")
        if progress is not None:
            progress(min(count, done * communicator.size), count)

    mine: EvaluationResult | SegNeXtError | None = None
    try:
        if share:
            mine = evaluate(model, dataset, settings=settings, indices=share, progress=report, **options)
    except SegNeXtError as error:
        if not error.on_all_ranks:
            raise
        mine = error  # a stop, which the others may not have noticed
    results = []
    for part in communicator.all_gather(mine):
        if isinstance(part, SegNeXtError):
            raise part
        if part is not None:
            results.append(part)
    if len(results) == 1:
        return results[0]
    return merge(results, names=[dataset.name(index) for index in range(count)])


def share_of(count: int, *, block: int, rank: int, size: int) -> list[int]:
    """The images, of 0…``count``−1, that ``rank`` evaluates: every ``size``-th block of ``block`` consecutive ones."""
    return [index for index in range(count) if index // block % size == rank]


def _same_size(samples: Iterable[tuple[int, Sample]], limit: int) -> Iterator[list[tuple[int, Sample]]]:
    """Runs of consecutive samples whose images are of one size, none across a multiple of ``limit``.

    So the groups, on which the last digits of the logits depend, are the same when ranks share the blocks of ``limit``.
    """
    group: list[tuple[int, Sample]] = []
    for position, (index, sample) in enumerate(samples):
        if group and (position % limit == 0 or group[0][1].image.shape != sample.image.shape):
            yield group
            group = []
        group.append((index, sample))
    if group:
        yield group
