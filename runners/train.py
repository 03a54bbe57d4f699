"""Trains SegNeXt: `python -m runners.train model=tiny dataset=shapes schedule=demo`."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from runners import build
from runners.launch import runner
from segnext import backend, complexity
from segnext.config import TrainConfig, to_yaml
from segnext.data.datasets import Dataset, check_labels
from segnext.data.loader import TrainingLoader
from segnext.evaluation.checkpoint import CheckpointInfo
from segnext.tracking.console import ProgressDisplay
from segnext.tracking.images import ValidationImage
from segnext.tracking.run_folder import RunFolder
from segnext.tracking.tracker import Tracker, validation_metrics
from segnext.training.resume import find_run


@runner("train", TrainConfig)
def main(config: TrainConfig) -> None:
    console = Console(soft_wrap=True, highlight=False)

    # Whatever is wrong with data or weights shows here, before any work.
    training_set, validation_set = (
        build.build_dataset(config.dataset, "train"),
        build.build_dataset(config.dataset, "val"),
    )
    for dataset in (training_set, validation_set):
        check_labels(dataset)
    resumed = find_run(config.resume, root=config.output_dir, name=config.name) if config.resume else None
    checkpoint = build.checkpoint_file(config.checkpoint)
    backbone = None if checkpoint or resumed else build.pretrained_backbone(config.model)

    folder = resumed or _new_folder(config)
    folder.write_config(to_yaml(config))
    console.print(f"{'Resuming' if resumed else 'Run folder'}: {folder.path}")
    backend.start(config.device.value, announce=console.print, log=folder.path / "jittor.log")
    classes = training_set.classes
    model = build.build_model(
        config.model, num_classes=len(classes), seed=config.seed, backbone=backbone, checkpoint=checkpoint
    )
    fit(config, model, training_set, validation_set, folder=folder, resume=resumed is not None, console=console)


def fit(
    config: TrainConfig,
    model: Any,
    training_set: Dataset,
    validation_set: Dataset,
    *,
    folder: RunFolder,
    resume: bool,
    console: Console,
) -> None:
    """Trains ``model`` to the end of the schedule, tracked in ``folder``."""
    from segnext.evaluation.evaluator import evaluate
    from segnext.training.checkpoints import Checkpoints
    from segnext.training.interrupt import Interrupted
    from segnext.training.loop import Intervals, train
    from segnext.training.optimiser import AdamW, parameter_groups
    from segnext.training.schedule import LearningRate

    schedule, classes = config.schedule, training_set.classes
    settings = build.inference_settings(config.dataset, config.evaluation)
    parameters = model.parameters_to_train()
    groups = parameter_groups(parameters, head_lr_factor=schedule.head_lr_factor, weight_decay=schedule.weight_decay)
    optimiser = AdamW(parameters, groups, betas=(schedule.betas[0], schedule.betas[1]))
    info = CheckpointInfo(config.model.name, config.dataset.name, classes, config.model.ham.rank or 0, settings)
    checkpoints = Checkpoints(folder.checkpoints, model, optimiser, info)
    first = checkpoints.restore() if resume else 0
    count = range(min(config.evaluation.max_images or len(validation_set), len(validation_set)))

    display = ProgressDisplay(
        total_iterations=schedule.iterations,
        title=f"{config.model.name} on {config.dataset.name}",
        log_file=folder.log,
        console=console,
    )
    tracker = Tracker(
        folder,
        class_names=classes.names,
        palette=classes.palette,
        sinks=build.sinks(config, folder, classes),
        display=display,
        first_iteration=first,
    )

    def evaluate_and_keep(iteration: int) -> None:
        samples: list[ValidationImage] = []

        def keep(index: int, sample: Any, prediction: Any) -> None:
            if len(samples) < config.tracking.images:
                samples.append(ValidationImage(validation_set.name(index), sample.image, sample.label, prediction))

        result = evaluate(
            model,
            validation_set,
            settings=settings,
            seed=config.seed,
            indices=count,
            workers=config.workers,
            on_prediction=keep,
        )
        tracker.log(iteration, validation_metrics(result.scores, classes.names))
        tracker.images(iteration, samples)
        checkpoints.save_if_best(iteration, result.scores.mIoU)

    loader = TrainingLoader(
        training_set,
        build.build_transform(config.dataset),
        batch_size=schedule.batch_size,
        seed=config.seed,
        first_iteration=first,
        last_iteration=schedule.iterations,
        workers=config.workers,
    )
    with tracker, loader as batches:
        cost = complexity(
            config.model.name,
            num_classes=len(classes),
            height=config.dataset.profile_size[0],
            width=config.dataset.profile_size[1],
        )
        tracker.summary({"params": cost.params, "macs": cost.macs, "flops": cost.macs})
        try:
            train(
                model,
                optimiser,
                batches,
                learning_rate=LearningRate(
                    schedule.lr, schedule.iterations, schedule.warmup_iterations, schedule.warmup_ratio, schedule.power
                ),
                seed=config.seed,
                intervals=Intervals(
                    schedule.log_interval, schedule.eval_interval, schedule.checkpoint_interval, schedule.iterations
                ),
                log=tracker.log,
                evaluate=evaluate_and_keep,
                save=checkpoints.save_latest,
                micro_batch=schedule.micro_batch,
            )
        except Interrupted as stop:
            tracker.finish("interrupted", exit_reason=stop.signal_name)
            raise


def _new_folder(config: TrainConfig) -> RunFolder:
    if config.run_folder is not None:
        return RunFolder.adopt(config.run_folder)
    return RunFolder.create(config.output_dir, config.name)


if __name__ == "__main__":
    main()
