"""One evaluation by all ranks of a run, with exactly the result that one process would have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from segnext.data.datasets import Dataset
from segnext.distributed.communicator import Communicator
from segnext.errors import SegNeXtError
from segnext.evaluation.evaluator import EvaluationResult, evaluate, merge
from segnext.evaluation.inference import InferenceSettings

__all__ = ["evaluate_distributed", "share_of"]


def share_of(count: int, *, block: int, rank: int, size: int) -> list[int]:
    """The images, of 0…``count``−1, that ``rank`` evaluates: every ``size``-th block of ``block`` consecutive ones."""
    return [index for index in range(count) if index // block % size == rank]


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
