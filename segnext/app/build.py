"""From the configuration to objects; the only place where the names of conf/ meet the library's keyword arguments."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segnext.app import (
    DatasetConfig,
    EvaluationConfig,
    ModelConfig,
    ScheduleConfig,
    TestMode,
    TrainConfig,
    WandbMode,
    to_dict,
)
from segnext.backend.world import World
from segnext.data.augmentation import TrainingTransform
from segnext.data.classes import ADE, CAMVID, CITYSCAPES, SHAPES, ClassTable, load_class_table
from segnext.data.creation import create_dataset
from segnext.data.datasets import Dataset
from segnext.data.loader import TrainingLoader
from segnext.errors import ConfigError, DataError
from segnext.evaluation.inference import InferenceSettings
from segnext.models.precision import Precision
from segnext.models.tensor_shapes import tensor_shapes
from segnext.tracking.console import ProgressDisplay
from segnext.tracking.mirrors import Sink, TensorBoardSink
from segnext.tracking.run_folder import RunFolder
from segnext.tracking.tracker import Tracker, git_revision
from segnext.tracking.wandb_sink import WandbSink, wandb_is_disabled
from segnext.training.lr_schedule import Intervals, LearningRate
from segnext.training.training_state import find_run
from segnext.weights.checkpoint import find_checkpoint
from segnext.weights.loading import ArrayModel, load_weights
from segnext.weights.zoo import PREFIX, locate

if TYPE_CHECKING:
    from segnext.training.optimizer import AdamW

__all__ = [
    "build_dataset",
    "build_loader",
    "build_model",
    "build_optimizer",
    "build_transform",
    "checkpoint_file",
    "inference_settings",
    "initial_weights",
    "intervals",
    "job_settings",
    "known_classes",
    "learning_rate",
    "new_run_folder",
    "pretrained_backbone",
    "run_to_resume",
    "sinks",
    "tracker",
]


def build_dataset(config: DatasetConfig, split: str) -> Dataset:
    """The ``split`` (train, val or test) of the configured dataset."""
    return create_dataset(
        config.name,
        root=config.root,
        split=split,
        classes=config.classes,
        reduce_zero_label=config.reduce_zero_label,
        validation_fraction=config.validation_fraction,
        split_files={split: file for split, file in vars(config.split_files).items() if file is not None},
        split_seed=config.split_seed,
        size=_pair(config.image_size),
        length=config.train_images if split == "train" else config.val_images,
        reading=config.reading(),
    )


_CLASSES = {"ade": ADE, "cityscapes": CITYSCAPES, "camvid": CAMVID, "shapes": SHAPES}


def known_classes(config: DatasetConfig) -> ClassTable:
    """Names and colours of the dataset's classes, without its files (``folder``: of its yaml file)."""
    if config.name in _CLASSES:
        return _CLASSES[config.name]
    inside = Path(config.root or ".").expanduser() / (config.classes or "classes.yaml")
    if inside.is_file():
        return load_class_table(inside)
    if config.classes is None:
        raise ConfigError("dataset.classes is not set: name the yaml file with the names of the classes")
    return load_class_table(config.classes)


def build_transform(config: DatasetConfig) -> TrainingTransform:
    low, high = config.ratio_range
    return TrainingTransform(crop=_pair(config.crop), scale=_pair(config.scale), ratio_range=(low, high))


def inference_settings(
    config: DatasetConfig, evaluation: EvaluationConfig | None = None, *, mode: str = "ss"
) -> InferenceSettings:
    """How ``dataset.test`` shows images to the model."""
    test = config.test
    return InferenceSettings(
        mode=mode,
        test_mode="slide" if test.mode is TestMode.slide else "whole",
        scale=_pair(test.scale),
        size_divisor=test.size_divisor,
        crop=_pair(test.crop),
        stride=_pair(test.stride),
        window_batch=(evaluation or EvaluationConfig()).window_batch,
    )


def pretrained_backbone(config: ModelConfig) -> Path | None:
    """The file of ``model.pretrained``, fetched if it is a published one; None when training from scratch.

    Raises:
        WeightsError: it cannot be had; the message says how to help.
    """
    if config.pretrained is None:
        return None
    return locate(f"zoo:mscan_{config.name}" if config.pretrained == "auto" else config.pretrained)


def checkpoint_file(checkpoint: str | None) -> Path | None:
    """The weights file that ``checkpoint`` means: a path, a run folder or ``zoo:NAME``; None for None."""
    if checkpoint is None:
        return None
    return locate(checkpoint) if checkpoint.startswith(PREFIX) else find_checkpoint(checkpoint)


def _lacking(config: DatasetConfig) -> str | None:
    """What is wrong with the dataset's files as far as their names tell; None: nothing."""
    try:
        for split in ("train", "val"):
            build_dataset(config, split)
    except DataError as error:
        return str(error)
    return None


def job_settings(config: TrainConfig) -> dict[str, Any]:
    """What a sweep must know of the job with this configuration."""
    return {
        "model": config.model.name,
        "nmf_rank": config.model.ham.rank,
        "dataset": config.dataset.name,
        "num_classes": len(known_classes(config.dataset)),
        "profile_size": tuple(config.dataset.profile_size),
        "crop": tuple(config.dataset.crop),
        "iterations": config.schedule.iterations,
        "batch_size": config.schedule.batch_size,
        "device": config.device.value,
        "ranks": config.ranks or 1,
        "group": config.tracking.group,
        "lacks": _lacking(config.dataset),
    }


def run_to_resume(config: TrainConfig) -> RunFolder | None:
    """The interrupted run that ``resume`` means, or that ``run_folder`` holds; None: a new one begins."""
    if config.resume is not None:
        return find_run(config.resume, root=config.output_dir, name=config.name)
    named = RunFolder(Path(config.run_folder).absolute()) if config.run_folder is not None else None
    return named if named is not None and named.can_go_on else None


def new_run_folder(config: TrainConfig) -> RunFolder:
    """The folder that ``run_folder`` names, or a new one below ``output_dir``."""
    if config.run_folder is not None:
        return RunFolder.adopt(config.run_folder)
    return RunFolder.create(config.output_dir, config.name)


def build_loader(
    config: TrainConfig, dataset: Dataset, *, first_iteration: int, world: World | None = None
) -> TrainingLoader:
    """The training batches, or this rank's part of each."""
    world = world or World()
    return TrainingLoader(
        dataset,
        build_transform(config.dataset),
        batch_size=config.schedule.batch_size,
        seed=config.seed,
        first_iteration=first_iteration,
        last_iteration=config.schedule.iterations,
        workers=config.workers,
        rank=world.rank,
        world_size=world.size,
    )


def build_optimizer(config: ScheduleConfig, model: Any) -> AdamW:
    """AdamW over the model's parameters in the recipe's groups."""
    from segnext.training.optimizer import AdamW, parameter_groups  # here, since this brings Jittor up

    parameters = model.parameters_to_train()
    groups = parameter_groups(parameters, head_lr_factor=config.head_lr_factor, weight_decay=config.weight_decay)
    return AdamW(parameters, groups, betas=(config.betas[0], config.betas[1]))


def learning_rate(config: ScheduleConfig) -> LearningRate:
    return LearningRate(
        config.lr,
        config.iterations,
        warmup_iterations=config.warmup_iterations,
        warmup_ratio=config.warmup_ratio,
        power=config.power,
    )


def intervals(config: ScheduleConfig) -> Intervals:
    return Intervals(config.log_interval, config.eval_interval, config.checkpoint_interval, config.iterations)


def sinks(config: TrainConfig, folder: RunFolder, classes: ClassTable) -> list[Sink]:
    """The mirrors of the event log that ``tracking`` asks for; WANDB_MODE=disabled switches W&B off as well."""
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
                tags=[*choices, *tracking.tags],
                notes=tracking.notes,
                config=to_dict(config),
                class_names=classes.names,
                git_revision=git_revision(),
            )
        )
    if tracking.tensorboard:
        mirrors.append(TensorBoardSink(folder, class_names=classes.names, palette=classes.palette))
    return mirrors


def tracker(
    config: TrainConfig,
    folder: RunFolder,
    classes: ClassTable,
    first_iteration: int,
    *,
    changed: Mapping[str, tuple[Any, Any]],
) -> Tracker:
    """The run's record, shown on the screen and mirrored as ``tracking`` asks for."""
    return Tracker(
        folder,
        class_names=classes.names,
        palette=classes.palette,
        sinks=sinks(config, folder, classes),
        display=ProgressDisplay(
            total_iterations=config.schedule.iterations,
            title=f"{config.model.name} on {config.dataset.name}",
            log_file=folder.log,
        ),
        first_iteration=first_iteration,
        changed=changed,
    )


def initial_weights(
    config: ModelConfig, *, num_classes: int, backbone: Path | None = None, checkpoint: Path | None = None
) -> dict[str, NDArray[np.float32]]:
    """The tensors to start from by name: all of a checkpoint, all of a backbone, or none; never a part of either.

    Raises:
        WeightsError: the file does not cover the model.
    """
    target = ArrayModel(tensor_shapes(config.name, num_classes=num_classes))
    if checkpoint is not None:
        load_weights(target, checkpoint, head=config.head.value)
    elif backbone is not None:
        load_weights(target, backbone, part="backbone")
    return target.arrays


def build_model(
    config: ModelConfig,
    *,
    num_classes: int,
    precision: Precision,
    seed: int,
    weights: Mapping[str, NDArray[np.float32]] | None = None,
) -> Any:
    """The model with freshly drawn weights, and ``weights`` in their place."""
    from segnext.models.segnext import create_model  # here, since this brings Jittor up

    model = create_model(
        config.name,
        num_classes=num_classes,
        drop_path=config.drop_path,
        dropout=config.dropout,
        nmf_rank=config.ham.rank,
        nmf_gradient=config.ham.gradient.value,
        precision=precision.value,
        gradient_checkpointing=config.recompute,
        seed=seed,
    )
    tensors = model.tensors()
    for name, array in (weights or {}).items():
        tensors[name].assign(array)
    return model


def _pair(values: list[int]) -> tuple[int, int]:
    first, second = values
    return first, second
