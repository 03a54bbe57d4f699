"""Trains SegNeXt: `python -m runners.train model=tiny dataset=shapes schedule=demo`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from rich.console import Console

from runners import build
from runners.launch import runner
from segnext import backend, complexity
from segnext.config import TrainConfig, to_yaml
from segnext.data.datasets import Dataset, Sample, check_labels
from segnext.evaluation.checkpoint import CheckpointInfo
from segnext.tracking.console import ProgressDisplay
from segnext.tracking.images import ValidationImage
from segnext.tracking.run_folder import RunFolder
from segnext.tracking.tracker import Tracker, validation_metrics
from segnext.training.resume import evaluated, find_run


@runner("train", TrainConfig, isolated=True)
def main(config: TrainConfig) -> None:
    console = Console(soft_wrap=True, highlight=False)

    # What can be wrong with data and weights shows here, before any work.
    training_set = build.build_dataset(config.dataset, "train")
    validation_set = build.build_dataset(config.dataset, "val")
    for dataset in (training_set, validation_set):
        check_labels(dataset)
    resumed = find_run(config.resume, root=config.output_dir, name=config.name) if config.resume else None
    checkpoint = None if resumed else build.checkpoint_file(config.checkpoint)
    backbone = None if checkpoint or resumed else build.pretrained_backbone(config.model)
    num_classes = len(training_set.classes)
    weights = build.initial_weights(config.model, num_classes=num_classes, backbone=backbone, checkpoint=checkpoint)

    folder = resumed or build.new_run_folder(config)
    folder.write_config(to_yaml(config))
    console.print(f"{'Resuming' if resumed else 'Run folder'} {folder.path}")
    backend.start(config.device.value, announce=partial(console.print, markup=False), log=folder.path / "jittor.log")
    model = build.build_model(config.model, num_classes=num_classes, seed=config.seed, weights=weights)
    figures = fit(config, model, training_set, validation_set, folder=folder, resume=resumed is not None)

    if "best_mIoU" in figures:  # it is missing where no validation pixel has a label
        console.print(f"best mIoU {100 * figures['best_mIoU']:.2f} % at iteration {figures['best_iteration']}")
    console.print(f"  run folder  {folder.path}")
    console.print(f"  curves      {folder.curves}")
    console.print(f"  overlays    {folder.samples}")


def fit(
    config: TrainConfig,
    model: Any,
    training_set: Dataset,
    validation_set: Dataset,
    *,
    folder: RunFolder,
    resume: bool,
) -> dict[str, Any]:
    """Trains ``model`` to the end of the schedule, tracked in ``folder``; returns the figures of ``metrics.json``."""
    # These bring Jittor up, which main() starts on the chosen device first.
    from segnext.training.checkpoints import Checkpoints
    from segnext.training.interrupt import Interrupted
    from segnext.training.loop import train

    classes = training_set.classes
    settings = build.inference_settings(config.dataset, config.evaluation)
    optimiser = build.build_optimiser(config.schedule, model)
    info = CheckpointInfo(config.model.name, config.dataset.name, classes, config.model.ham.rank or 0, settings)
    checkpoints = Checkpoints(folder.checkpoints, model, optimiser, info=info)
    first_iteration = checkpoints.restore() if resume else 0
    tracker = Tracker(
        folder,
        class_names=classes.names,
        palette=classes.palette,
        sinks=build.sinks(config, folder, classes),
        display=ProgressDisplay(
            total_iterations=config.schedule.iterations,
            title=f"{config.model.name} on {config.dataset.name}",
            log_file=folder.log,
        ),
        first_iteration=first_iteration,
    )

    def evaluate_and_keep(iteration: int, check: Callable[[], None]) -> None:
        scores, samples = _validate(config, model, validation_set, settings, check=check)
        tracker.log(iteration, validation_metrics(scores, classes.names))
        tracker.images(iteration, samples)
        checkpoints.save_if_best(iteration, scores.mIoU)

    with tracker, build.build_loader(config, training_set, first_iteration=first_iteration) as batches:
        height, width = config.dataset.profile_size
        cost = complexity(config.model.name, num_classes=len(classes), height=height, width=width)
        tracker.note("compiling operators (first use takes a minute or two)")
        tracker.summary({"params": cost.params, "macs": cost.macs, "flops": cost.macs})
        intervals = build.intervals(config.schedule)
        if resume and intervals.due(intervals.evaluation, first_iteration) and not evaluated(folder, first_iteration):
            evaluate_and_keep(first_iteration, lambda: None)
        try:
            train(
                model,
                optimiser,
                batches,
                learning_rate=build.learning_rate(config.schedule),
                seed=config.seed,
                intervals=intervals,
                log=tracker.log,
                evaluate=evaluate_and_keep,
                save=checkpoints.save_latest,
                micro_batch=config.schedule.micro_batch,
            )
        except Interrupted as stop:
            tracker.finish("interrupted", exit_reason=stop.signal_name)
            raise
    return tracker.figures


def _validate(
    config: TrainConfig, model: Any, dataset: Dataset, settings: Any, *, check: Callable[[], None]
) -> tuple[Any, list[ValidationImage]]:
    """Scores of the validation images, and the first few of them with their predictions; ``check`` may stop it."""
    from segnext.evaluation.evaluator import evaluate

    samples: list[ValidationImage] = []

    def keep(index: int, sample: Sample, prediction: Any) -> None:
        if len(samples) < config.tracking.images:
            samples.append(ValidationImage(dataset.name(index), sample.image, sample.label, prediction))

    limit = config.evaluation.max_images or len(dataset)
    result = evaluate(
        model,
        dataset,
        settings=settings,
        seed=config.seed,
        indices=range(min(limit, len(dataset))),
        workers=config.workers,
        progress=lambda done, total: check(),
        on_prediction=keep,
    )
    return result.scores, samples


if __name__ == "__main__":
    main()
