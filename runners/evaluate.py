"""Evaluates a checkpoint: `python -m runners.evaluate model=tiny dataset=ade checkpoint=zoo:tiny_ade`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from segnext.app import EvaluateConfig, PaperFigures
from segnext.app.build import build_dataset, build_model, inference_settings
from segnext.app.ranks import assemble
from segnext.app.runner import runner
from segnext.app.trained import open_run_folder, read_weights, recorded, require_fit
from segnext.data.datasets import Dataset, Sample
from segnext.distributed.communicator import Communicator
from segnext.evaluation.evaluator import EvaluationResult, evaluate_distributed
from segnext.evaluation.results import metrics_of, write_tables
from segnext.evaluation.submission import SubmissionWriter, require_benchmark
from segnext.tracking.console import class_table
from segnext.tracking.run_supervisor import open_session
from segnext.weights.checkpoint import open_checkpoint


@runner("evaluate", EvaluateConfig)
def main(config: EvaluateConfig) -> None:
    console = Console(markup=False, emoji=False, highlight=False, soft_wrap=False)
    dataset = build_dataset(config.dataset, config.split)
    if config.evaluation.submission:
        require_benchmark(config.dataset.name)
    path, info = open_checkpoint(config.checkpoint)
    require_fit(info, model=config.model.name, dataset=dataset, checkpoint=config.checkpoint)
    weights = read_weights(config, path, info, num_classes=len(dataset.classes))
    communicator, folder, members = assemble(config, lambda: open_run_folder(config, config.name), console)
    with open_session(communicator, folder.path, members), recorded(folder, by=communicator):
        model = build_model(
            config.model,
            num_classes=len(dataset.classes),
            precision=config.precision,
            seed=config.seed,
            weights=weights,
        )
        writer = (
            SubmissionWriter(config.dataset.name, folder.path / "submission") if config.evaluation.submission else None
        )
        results = _evaluate_repeatedly(config, communicator, model, dataset, writer, console)
        if not communicator.is_main:
            return
        metrics = metrics_of(results) | {
            "checkpoint": str(path), "split": config.split, "mode": config.mode.value, "seed": config.seed,
            "iteration": info.iteration if info is not None else None,
        }  # fmt: skip
        write_tables(folder.path, results[0], dataset.classes)
        folder.write_classes(dataset.classes.names, dataset.classes.palette)
        folder.write_metrics(metrics)
        archive = writer.finish() if writer is not None else None
    _show(console, config, results[0], metrics, dataset)
    if archive is not None:
        console.print(f"submission: {archive} (read back and verified)", soft_wrap=True)
    console.print(f"results: {folder.path}", soft_wrap=True)


def _evaluate_repeatedly(
    config: EvaluateConfig,
    communicator: Communicator,
    model: Any,
    dataset: Dataset,
    writer: SubmissionWriter | None,
    console: Console,
) -> list[EvaluationResult]:
    """One result per draw of the random bases; the first goes into the submission."""
    options = config.evaluation
    images = min(len(dataset), options.max_images or len(dataset))
    settings = inference_settings(config.dataset, options, mode=config.mode.value)
    columns = (TextColumn("{task.description}"), BarColumn(24), MofNCompleteColumn(), TimeRemainingColumn())

    def one(repeat: int) -> EvaluationResult:
        title = "evaluating" if options.draws == 1 else f"repeat {repeat + 1} of {options.draws}"
        task = bar.add_task(title, total=images)

        def keep(index: int, _: Sample, labels: NDArray[np.int32]) -> None:
            if writer is not None and repeat == 0:
                writer.add(dataset.name(index), labels)

        return evaluate_distributed(
            communicator,
            model,
            dataset,
            settings=settings,
            count=images,
            seed=config.seed,
            repeat=repeat,
            workers=config.workers,
            boundary=options.boundary,
            progress=lambda done, _: bar.update(task, completed=done),
            on_prediction=keep,
        )

    with Progress(*columns, console=console, transient=True) as bar:
        results = [one(repeat) for repeat in range(options.draws)]
    if writer is not None:
        for written in communicator.all_gather(writer.written):
            writer.include(written)
    return results


def _show(
    console: Console, config: EvaluateConfig, result: EvaluationResult, metrics: dict[str, Any], dataset: Dataset
) -> None:
    """The table per class and the figures below it, in per cent."""
    scores = result.scores
    console.print(class_table(dataset.classes.names, scores.IoU.tolist(), scores.Acc.tolist()))
    console.print()
    kind = "multi-scale and flip" if config.mode.value == "ms" else "single scale"
    console.print(f"{config.model.name} on {config.dataset.name} {config.split}, {kind}, {result.images} images")
    line = f"mIoU {_percent(scores.mIoU)}   mAcc {_percent(scores.mAcc)}   aAcc {_percent(scores.aAcc)}"
    if "boundary_mIoU" in metrics:
        line += f"   boundary mIoU {_percent(metrics['boundary_mIoU'])}"
    console.print(line, style="bold")
    if "mIoU_sd" in metrics:
        mean, sd = 100 * metrics["mIoU_mean"], 100 * metrics["mIoU_sd"]
        console.print(f"mIoU over {config.evaluation.draws} draws of the NMF bases: {mean:.2f} ± {sd:.2f} % (sd)")
    paper = config.model.paper.get(config.dataset.name)
    if paper is not None:
        console.print(_beside_paper(paper, scores.mIoU, config))
    if not math.isnan(result.images_per_second):
        console.print(f"{result.images_per_second:.2f} images/s")


def _beside_paper(paper: PaperFigures, miou: float, config: EvaluateConfig) -> str:
    published = getattr(paper, f"mIoU_{config.mode.value}")
    text = f"paper: {published:.1f} %, difference {100 * miou - published:+.2f} points"
    if config.evaluation.max_images is not None or config.split != "val":
        text += " (the paper's is of the whole validation set)"
    return text


def _percent(fraction: float) -> str:
    return "–" if math.isnan(fraction) else f"{100 * fraction:.2f} %"


if __name__ == "__main__":
    main()
