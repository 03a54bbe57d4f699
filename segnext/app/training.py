"""What belongs to a training: its folder, its tracker with the mirrors asked for, and what a sweep must know of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from rich.console import Console

from segnext.app.resolution import to_dict
from segnext.app.schema import TrainConfig
from segnext.backend.logs import decoders_into_log
from segnext.data.classes import ClassTable, known_classes
from segnext.data.creation import create_dataset
from segnext.data.datasets import Dataset
from segnext.data.inspection import check_training_data
from segnext.distributed.communicator import Communicator
from segnext.errors import DataError
from segnext.progress import progress
from segnext.tracking.console import ProgressDisplay
from segnext.tracking.dashboard import GROUP_KEY
from segnext.tracking.mirrors import Sink, TensorBoardSink
from segnext.tracking.run_folder import RunFolder
from segnext.tracking.settings import WandbMode
from segnext.tracking.tracker import RankLog, Tracker, git_revision
from segnext.tracking.wandb_sink import WandbSink, wandb_is_disabled
from segnext.training.training_state import find_run

__all__ = ["check_files", "job_settings", "new_run_folder", "open_tracker", "run_to_resume"]


def check_files(training_set: Dataset, validation_set: Dataset, console: Console, *, workers: int = 4) -> None:
    """Looks at all labels before any work; warns of what is suspicious. Raises DataError where files are unusable."""
    with decoders_into_log(), progress(console, "checking labels") as report:

        def tell(split: str, done: int, total: int) -> None:
            report(done, total, f"checking the files of {split}")

        warnings = check_training_data(training_set, validation_set, workers=workers, progress=tell, note=console.print)
    for text in warnings:
        console.print(f"warning: {text}")


def job_settings(config: TrainConfig) -> dict[str, Any]:
    """What a sweep must know of the job with this configuration."""
    return {
        "model": config.model.name,
        "nmf_rank": config.model.nmf_rank,
        "dataset": config.dataset.name,
        "num_classes": len(known_classes(config.dataset)),
        "flops_size": config.dataset.flops_size,
        "crop": config.dataset.crop,
        "iterations": config.schedule.iterations,
        "batch_size": config.schedule.batch_size,
        "device": config.device.value,
        "ranks": config.ranks or 1,
        "group": config.tracking.group,
        "lacks": _lacking(config),
    }


def _lacking(config: TrainConfig) -> str | None:
    """What is wrong with the dataset's files as far as their names tell; None: nothing."""
    try:
        for split in ("train", "val"):
            create_dataset(config.dataset, split=split)
    except DataError as error:
        return str(error)
    return None


def run_to_resume(config: TrainConfig) -> RunFolder | None:
    """The interrupted run that ``resume`` means, or that ``run_folder`` holds; None: a new one begins."""
    if config.resume is not None:
        return find_run(config.resume, root=config.output_dir, name=config.name, iterations=config.schedule.iterations)
    named = RunFolder(Path(config.run_folder).absolute()) if config.run_folder is not None else None
    return named if named is not None and named.can_go_on else None


def new_run_folder(config: TrainConfig) -> RunFolder:
    """The folder that ``run_folder`` names, or a new one below ``output_dir``."""
    if config.run_folder is not None:
        return RunFolder.adopt(config.run_folder)
    return RunFolder.create(config.output_dir, config.name)


def open_tracker(
    config: TrainConfig,
    folder: RunFolder,
    classes: ClassTable,
    *,
    first_iteration: int,
    communicator: Communicator,
    log: IO[str],
    changed: Mapping[str, tuple[Any, Any]],
) -> Tracker | RankLog:
    """The run's record, shown on the screen and mirrored; on other ranks than the main one lines in their ``log``."""
    if not communicator.is_main:
        return RankLog(log)
    return Tracker(
        folder,
        class_names=classes.names,
        palette=classes.palette,
        sinks=_sinks(config, folder, classes),
        display=ProgressDisplay(
            total_iterations=config.schedule.iterations,
            evaluation_interval=config.schedule.eval_interval,
            title=f"{config.model.name} on {config.dataset.name}",
            log_file=folder.log,
        ),
        first_iteration=first_iteration,
        changed=changed,
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
