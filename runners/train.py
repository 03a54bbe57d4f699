"""Trains SegNeXt: `python -m runners.train model=tiny dataset=shapes schedule=demo`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Console

from segnext.app.continuation import changed_settings, describe_changes, finished_run
from segnext.app.memory import fit_step
from segnext.app.ranks import Run, assemble
from segnext.app.resolution import to_yaml
from segnext.app.runner import runner
from segnext.app.schema import TrainConfig
from segnext.app.training import check_files, new_run_folder, open_tracker, run_to_resume
from segnext.backend.world import current_world
from segnext.data.augmentation import TrainingTransform
from segnext.data.creation import create_dataset
from segnext.data.datasets import Dataset, Sample
from segnext.data.loader import TrainingLoader
from segnext.evaluation.evaluator import evaluate_distributed
from segnext.models.complexity import complexity
from segnext.models.precision import Precision
from segnext.tracking.images import ValidationImage
from segnext.tracking.run_folder import RunFolder
from segnext.tracking.run_supervisor import open_session
from segnext.tracking.tracker import validation_metrics
from segnext.training.interrupt import Interrupted
from segnext.training.loop import train
from segnext.training.loss import LossScale
from segnext.training.meters import LossMeter
from segnext.training.optimizer import create_optimizer
from segnext.training.training_state import Checkpoints, evaluated
from segnext.weights.checkpoint import CheckpointInfo
from segnext.weights.trained import build_model, initial_weights


@runner("train", TrainConfig, isolated=True, from_run=True)
def main(config: TrainConfig) -> None:
    console = Console(markup=False, emoji=False, soft_wrap=True, highlight=False)
    if finished_run(config) is not None:
        console.print(f"Nothing to do: the run in {config.run_folder} has finished")
        return

    # What can be wrong with data and weights shows here, before any work.
    training_set = create_dataset(config.dataset, split="train")
    validation_set = create_dataset(config.dataset, split="val")
    is_main = current_world().is_main  # the other ranks get folder and weights from rank 0
    if is_main:
        check_files(training_set, validation_set, console)
    num_classes = len(training_set.classes)
    resumed = run_to_resume(config) if is_main else None
    starts = is_main and resumed is None
    weights = initial_weights(config.model, num_classes=num_classes, checkpoint=config.checkpoint) if starts else {}

    changed: dict[str, tuple[Any, Any]] = {}

    def open_folder() -> RunFolder:
        folder = resumed or new_run_folder(config)
        if config.memory is not None:
            console.print(fit_step(config, num_classes=num_classes, run=resumed))
        if advice := config.schedule.rate_advice(config.dataset.batch_size):
            console.print(f"warning: {advice}")
        if resumed:
            changed.update(changed_settings(folder, config, training_set.classes))
        folder.claim()
        folder.write_config(to_yaml(config))
        console.print(f"{'Resuming' if resumed else 'Run folder'} {folder.path}")
        if changed:
            console.print(f"  with other settings than before: {describe_changes(changed)}")
        return folder

    communicator, folder, members = assemble(config, open_folder, console)
    chosen = config.schedule.micro_batch, config.model.gradient_checkpointing
    config.schedule.micro_batch, config.model.gradient_checkpointing = communicator.broadcast(chosen)
    with open_session(communicator, folder.path, members) as log:
        model = build_model(
            config.model, num_classes=num_classes, precision=config.precision, seed=config.seed, weights=weights
        )
        resume = communicator.broadcast(resumed is not None)
        run = Run(config, communicator, folder, log, resume=resume, changed=changed)
        figures = fit(run, model, training_set, validation_set)

    if "best_mIoU" in figures:  # it is missing where no validation pixel has a label
        console.print(f"best mIoU {100 * figures['best_mIoU']:.2f} % at iteration {figures['best_iteration']}")
    for name, path in (("run folder", folder.path), ("curves", folder.curves), ("overlays", folder.samples)):
        console.print(f"  {name:<10}  {path}")


def fit(run: Run, model: Any, training_set: Dataset, validation_set: Dataset) -> dict[str, Any]:
    """Trains ``model`` to the end of the schedule, tracked in the run's folder; returns its ``metrics.json``."""
    config, schedule, communicator, classes = run.config, run.config.schedule, run.communicator, training_set.classes
    optimizer = create_optimizer(model, schedule)
    data = config.dataset
    info = CheckpointInfo(
        config.model.name, data.name, classes, config.model.nmf_rank, data.test, image_range=data.image_range
    )
    loss_scale = LossScale() if config.precision is Precision.fp16 else None
    losses = LossMeter(communicator.size)
    checkpoints = Checkpoints(
        run.folder.checkpoints,
        model,
        optimizer,
        info=info,
        communicator=communicator,
        loss_scale=loss_scale,
        losses=losses,
    )
    first_iteration = checkpoints.restore() if run.resume else checkpoints.begin()
    tracker = open_tracker(
        config,
        run.folder,
        classes,
        first_iteration=first_iteration,
        communicator=communicator,
        log=run.log,
        changed=run.changed,
    )

    def evaluate_and_keep(iteration: int, check: Callable[[], None]) -> None:
        def progress(done: int, total: int) -> None:
            tracker.evaluating(done, total)
            check()

        scores, samples = _validate(run, model, validation_set, progress=progress)
        # Saved first, recorded last: where a stop comes in between, the evaluation is made again.
        checkpoints.save_if_best(iteration, scores.mIoU)
        tracker.images(iteration, samples)
        tracker.log(iteration, validation_metrics(scores, classes.names))

    loader = TrainingLoader(
        training_set,
        TrainingTransform(config.dataset),
        batch_size=schedule.batch_size,
        seed=config.seed,
        first_iteration=first_iteration,
        last_iteration=schedule.iterations,
        workers=config.workers,
        rank=communicator.world.rank,
        world_size=communicator.size,
    )
    with tracker, loader as batches:
        tracker.summary(_cost(config, len(classes)))
        due = communicator.is_main and run.resume and schedule.is_due(schedule.eval_interval, first_iteration)
        if communicator.broadcast(due and not evaluated(run.folder, first_iteration)):
            evaluate_and_keep(first_iteration, lambda: None)
        try:
            train(
                model,
                optimizer,
                batches,
                schedule=schedule,
                seed=config.seed,
                log=tracker.log,
                evaluate=evaluate_and_keep,
                save=checkpoints.save_latest,
                communicator=communicator,
                loss_scale=loss_scale,
                losses=losses,
                on_step=tracker.step,
            )
        except Interrupted as stop:
            tracker.finish("interrupted", exit_reason=stop.signal_name)
            raise
    return tracker.figures


def _cost(config: TrainConfig, num_classes: int) -> dict[str, int]:
    height, width = config.dataset.flops_size
    rank = config.model.nmf_rank
    cost = complexity(config.model.name, num_classes=num_classes, height=height, width=width, nmf_rank=rank)
    return {"params": cost.params, "macs": cost.macs, "flops": cost.macs}  # "FLOPs" as the paper counts them


def _validate(
    run: Run, model: Any, dataset: Dataset, *, progress: Callable[[int, int], None]
) -> tuple[Any, list[ValidationImage]]:
    """Scores of the validation images, and the first few of them with their predictions; ``progress`` may stop it."""
    config = run.config
    samples: dict[int, ValidationImage] = {}

    def keep(index: int, sample: Sample, prediction: Any) -> None:
        if index < config.tracking.images:
            samples[index] = ValidationImage(dataset.name(index), sample.image, sample.label, prediction)

    result = evaluate_distributed(
        run.communicator,
        model,
        dataset,
        settings=config.dataset.test,
        count=config.evaluation.count(len(dataset)),
        seed=config.seed,
        workers=config.workers,
        progress=progress,
        on_prediction=keep,
    )
    everywhere = {index: image for part in run.communicator.all_gather(samples) for index, image in part.items()}
    return result.scores, [image for _, image in sorted(everywhere.items())]


if __name__ == "__main__":
    main()
