"""Trains SegNeXt: `python -m runners.train model=tiny dataset=shapes schedule=demo`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Console

from segnext import complexity
from segnext.app import TrainConfig, build, ranks, to_yaml
from segnext.app.continuation import changed_settings, describe_changes, finished_run
from segnext.app.runner import runner
from segnext.backend.world import current_world
from segnext.data.datasets import Dataset, Sample
from segnext.data.inspection import check_training_data
from segnext.models.precision import Precision
from segnext.tracking.images import ValidationImage
from segnext.tracking.run_folder import RunFolder
from segnext.tracking.run_supervisor import open_session
from segnext.tracking.tracker import RankLog, validation_metrics
from segnext.training.training_state import evaluated
from segnext.weights.checkpoint import CheckpointInfo


@runner("train", TrainConfig, isolated=True)
def main(config: TrainConfig) -> None:
    console = Console(markup=False, emoji=False, soft_wrap=True, highlight=False)
    if finished_run(config) is not None:
        console.print(f"Nothing to do: the run in {config.run_folder} has finished")
        return

    # What can be wrong with data and weights shows here, before any work.
    training_set = build.build_dataset(config.dataset, "train")
    validation_set = build.build_dataset(config.dataset, "val")
    for text in check_training_data(training_set, validation_set):
        console.print(f"warning: {text}")
    is_main = current_world().is_main  # the other ranks get folder and weights from rank 0
    resumed = build.run_to_resume(config) if is_main else None
    checkpoint = build.checkpoint_file(config.checkpoint) if is_main and not resumed else None
    backbone = build.pretrained_backbone(config.model) if is_main and not resumed and not checkpoint else None
    num_classes = len(training_set.classes)
    weights = build.initial_weights(config.model, num_classes=num_classes, backbone=backbone, checkpoint=checkpoint)

    changed: dict[str, tuple[Any, Any]] = {}

    def open_folder() -> RunFolder:
        folder = resumed or build.new_run_folder(config)
        folder.claim()
        if resumed:
            changed.update(changed_settings(folder, config, training_set.classes))
        folder.write_config(to_yaml(config))
        console.print(f"{'Resuming' if resumed else 'Run folder'} {folder.path}")
        if changed:
            console.print(f"  with other settings than before: {describe_changes(changed)}")
        return folder

    communicator, folder, members = ranks.assemble(config, open_folder, console)
    with open_session(communicator, folder.path, members) as log:
        model = build.build_model(
            config.model, num_classes=num_classes, precision=config.precision, seed=config.seed, weights=weights
        )
        resume = communicator.broadcast(resumed is not None)
        run = ranks.Run(config, communicator, folder, log, resume=resume, changed=changed)
        figures = fit(run, model, training_set, validation_set)

    if "best_mIoU" in figures:  # it is missing where no validation pixel has a label
        console.print(f"best mIoU {100 * figures['best_mIoU']:.2f} % at iteration {figures['best_iteration']}")
    for name, path in (("run folder", folder.path), ("curves", folder.curves), ("overlays", folder.samples)):
        console.print(f"  {name:<10}  {path}")


def fit(run: ranks.Run, model: Any, training_set: Dataset, validation_set: Dataset) -> dict[str, Any]:
    """Trains ``model`` to the end of the schedule, tracked in the run's folder; returns its ``metrics.json``."""
    # These bring Jittor up, which main() starts on the chosen device first.
    from segnext.training.interrupt import Interrupted
    from segnext.training.loop import train
    from segnext.training.loss import LossScale
    from segnext.training.meters import LossMeter
    from segnext.training.training_state import Checkpoints

    config, communicator, classes = run.config, run.communicator, training_set.classes
    settings = build.inference_settings(config.dataset, config.evaluation)
    optimizer = build.build_optimizer(config.schedule, model)
    info = CheckpointInfo(
        config.model.name, config.dataset.name, classes, config.model.ham.rank or 0, settings.for_checkpoint()
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
    tracker = (
        build.tracker(config, run.folder, classes, first_iteration, changed=run.changed)
        if communicator.is_main
        else RankLog(run.log)
    )

    def evaluate_and_keep(iteration: int, check: Callable[[], None]) -> None:
        scores, samples = _validate(run, model, validation_set, settings, check=check)
        # Saved first, recorded last: where a stop comes in between, the evaluation is made again.
        checkpoints.save_if_best(iteration, scores.mIoU)
        tracker.images(iteration, samples)
        tracker.log(iteration, validation_metrics(scores, classes.names))

    loader = build.build_loader(config, training_set, first_iteration=first_iteration, world=communicator.world)
    with tracker, loader as batches:
        height, width = config.dataset.profile_size
        cost = complexity(config.model.name, num_classes=len(classes), height=height, width=width)
        tracker.note("compiling operators (first use takes a minute or two)")
        tracker.summary({"params": cost.params, "macs": cost.macs, "flops": cost.macs})
        intervals = build.intervals(config.schedule)
        due = communicator.is_main and run.resume and intervals.due(intervals.evaluation, first_iteration)
        if communicator.broadcast(due and not evaluated(run.folder, first_iteration)):
            evaluate_and_keep(first_iteration, lambda: None)
        try:
            train(
                model,
                optimizer,
                batches,
                learning_rate=build.learning_rate(config.schedule),
                seed=config.seed,
                intervals=intervals,
                log=tracker.log,
                evaluate=evaluate_and_keep,
                save=checkpoints.save_latest,
                micro_batch=config.schedule.micro_batch,
                communicator=communicator,
                loss_scale=loss_scale,
                losses=losses,
            )
        except Interrupted as stop:
            tracker.finish("interrupted", exit_reason=stop.signal_name)
            raise
    return tracker.figures


def _validate(
    run: ranks.Run, model: Any, dataset: Dataset, settings: Any, *, check: Callable[[], None]
) -> tuple[Any, list[ValidationImage]]:
    """Scores of the validation images, and the first few of them with their predictions; ``check`` may stop it."""
    from segnext.evaluation.evaluator import evaluate_distributed

    config = run.config
    samples: dict[int, ValidationImage] = {}

    def keep(index: int, sample: Sample, prediction: Any) -> None:
        if index < config.tracking.images:
            samples[index] = ValidationImage(dataset.name(index), sample.image, sample.label, prediction)

    result = evaluate_distributed(
        run.communicator,
        model,
        dataset,
        settings=settings,
        count=min(len(dataset), config.evaluation.max_images or len(dataset)),
        seed=config.seed,
        workers=config.workers,
        progress=lambda done, total: check(),
        on_prediction=keep,
    )
    everywhere = {index: image for part in run.communicator.all_gather(samples) for index, image in part.items()}
    return result.scores, [image for _, image in sorted(everywhere.items())]


if __name__ == "__main__":
    main()
