"""A training from its first iteration, or where it stopped, to its last, evaluated and recorded on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from segnext.app.resolution import to_dict
from segnext.app.schema import TrainConfig
from segnext.data.augmentation import TrainingTransform
from segnext.data.classes import ClassTable
from segnext.data.datasets import Dataset, Sample
from segnext.data.loader import TrainingLoader
from segnext.distributed.communicator import Communicator
from segnext.evaluation.evaluator import EvaluationResult, evaluate_distributed
from segnext.evaluation.extremes import write_extremes
from segnext.evaluation.results import validation_metrics, write_tables
from segnext.models.complexity import complexity
from segnext.models.settings import Precision
from segnext.screen import shown
from segnext.tracking.console import ProgressDisplay
from segnext.tracking.dashboard import GROUP_KEY
from segnext.tracking.images import ValidationImage
from segnext.tracking.mirrors import Sink, TensorBoardSink
from segnext.tracking.run_folder import RunFolder
from segnext.tracking.settings import WandbMode
from segnext.tracking.tracker import RankLog, Tracker, git_revision
from segnext.tracking.wandb_sink import WandbSink, wandb_is_disabled
from segnext.training.interrupt import Interrupted
from segnext.training.loop import train
from segnext.training.loss import LossScale
from segnext.training.meters import LossMeter
from segnext.training.optimizer import create_optimizer
from segnext.training.training_state import Checkpoints, evaluated
from segnext.weights.checkpoint import CheckpointInfo

__all__ = ["Run", "fit"]


@dataclass(frozen=True)
class Run:
    """What a training is about and where it is recorded.

    Attributes:
        log: this rank's own.
        changed: settings with which a resumed run goes on otherwise than before, key → (before, now).
    """

    config: TrainConfig
    communicator: Communicator
    folder: RunFolder
    log: IO[str]
    resume: bool
    changed: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)


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
    tracker = _open_tracker(run, classes, first_iteration)

    def evaluate_and_keep(iteration: int, check: Callable[[], None]) -> None:
        def progress(done: int, total: int) -> None:
            tracker.evaluating(done, total)
            check()

        result, samples = _validate(run, model, validation_set, progress=progress)
        # Saved first, recorded last: where a stop comes in between, the evaluation is made again.
        if checkpoints.save_if_best(iteration, result.scores.mIoU) and communicator.is_main:
            tracker.note("keeping the best and the worst images")
            write_tables(run.folder.evaluation, result, classes, picture=False)
            write_extremes(
                run.folder.evaluation, model, validation_set, result, settings=config.dataset.test,
                count=config.evaluation.extremes, seed=config.seed,
            )  # fmt: skip
            tracker.note("")
        tracker.images(iteration, samples)
        tracker.log(iteration, validation_metrics(result.scores, classes.names))

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
) -> tuple[EvaluationResult, list[ValidationImage]]:
    """What the evaluation counted, and the first few images with their predictions; ``progress`` may stop it."""
    config = run.config
    samples: dict[int, ValidationImage] = {}

    def keep(index: int, sample: Sample, prediction: Any) -> None:
        if index < config.tracking.images:
            samples[index] = ValidationImage(shown(dataset.name(index)), sample.image, sample.label, prediction)

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
    return result, [image for _, image in sorted(everywhere.items())]


def _open_tracker(run: Run, classes: ClassTable, first_iteration: int) -> Tracker | RankLog:
    """The run's record, shown on the screen and mirrored; on other ranks than the main one lines in their log."""
    if not run.communicator.is_main:
        return RankLog(run.log)
    config = run.config
    return Tracker(
        run.folder,
        class_names=classes.names,
        palette=classes.palette,
        sinks=_sinks(config, run.folder, classes),
        display=ProgressDisplay(
            total_iterations=config.schedule.iterations,
            evaluation_interval=config.schedule.eval_interval,
            title=f"{config.model.name} on {config.dataset.name}",
            log_file=run.folder.log,
        ),
        first_iteration=first_iteration,
        changed=run.changed,
    )


def _sinks(config: TrainConfig, folder: RunFolder, classes: ClassTable) -> list[Sink]:
    """The mirrors of the event log; WANDB_MODE=disabled switches W&B off as well."""
    tracking, mirrors = config.tracking, list[Sink]()
    if tracking.wandb is not WandbMode.disabled and not wandb_is_disabled():
        choices = [config.model.name, config.dataset.name, f"seed={config.seed}"]
        mirrors.append(
            WandbSink(
                folder,
                project=tracking.project,
                entity=tracking.entity,
                mode=tracking.wandb.value,
                group=tracking.group,
                tags=tracking.tags,
                labels=choices,
                notes=tracking.notes,
                config=to_dict(config) | {GROUP_KEY: f"{config.model.name}_{config.dataset.name}"},
                artifact=tracking.artifact,
                class_names=classes.names,
                git_revision=git_revision(),
            )
        )
    if tracking.tensorboard:
        mirrors.append(TensorBoardSink(folder, class_names=classes.names, palette=classes.palette))
    return mirrors
