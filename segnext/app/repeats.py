"""An evaluation, repeated with other random bases where that is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from segnext.app.schema import EvaluateConfig
from segnext.data.datasets import Dataset, Sample
from segnext.distributed.communicator import Communicator
from segnext.evaluation.evaluator import EvaluationResult, evaluate_distributed
from segnext.evaluation.submission import SubmissionWriter
from segnext.progress import progress
from segnext.training.interrupt import StopSignals

__all__ = ["evaluate_repeatedly"]


def evaluate_repeatedly(
    config: EvaluateConfig,
    communicator: Communicator,
    model: Any,
    dataset: Dataset,
    writer: SubmissionWriter | None,
    console: Console,
    stops: StopSignals,
) -> list[EvaluationResult]:
    """One result per draw of other random bases; the first goes into the submission."""
    options = config.evaluation
    images = options.count(len(dataset))

    def one(repeat: int) -> EvaluationResult:
        title = "evaluating" if options.repeats == 1 else f"repeat {repeat + 1} of {options.repeats}"

        def keep(index: int, _: Sample, labels: NDArray[np.int32]) -> None:
            if writer is not None and repeat == 0:
                writer.add(dataset.name(index), labels)
            stops.raise_if_received("before the evaluation was complete: nothing is recorded")

        with progress(console, title, images) as report:
            return evaluate_distributed(
                communicator,
                model,
                dataset,
                settings=config.dataset.test,
                count=images,
                seed=config.seed,
                repeat=repeat,
                workers=config.workers,
                boundary=options.boundary,
                progress=report,
                on_prediction=keep,
            )

    results = [one(repeat) for repeat in range(options.repeats)]
    if writer is not None:
        for written in communicator.all_gather(writer.written):
            writer.include(written)
    return results
