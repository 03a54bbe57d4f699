"""What is decided before a training begins: are its files sound, and does it start, go on, or has it finished already?

A run folder is idempotent: started again in it, a training that has finished does nothing, and any other goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from segnext.app.memory import same_step_as
from segnext.app.resolution import to_dict
from segnext.app.schema import TrainConfig
from segnext.backend.logs import decoders_into_log
from segnext.data.catalog import create_dataset
from segnext.data.classes import ClassTable, known_classes
from segnext.data.datasets import Dataset
from segnext.data.inspection import check_training_data
from segnext.errors import ConfigError, DataError
from segnext.progress import progress
from segnext.tracking.run_folder import RunFolder
from segnext.training.training_state import find_run

__all__ = [
    "changed_settings", "check_files", "describe_changes", "finished_run", "job_settings", "new_run_folder",
    "run_to_resume",
]  # fmt: skip

_FIXED = ("classes", "dataset.name", "model.ham.rank", "model.name", "model.nmf_rank")  # while a run lasts


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


def finished_run(config: TrainConfig) -> RunFolder | None:
    """The run that ``run_folder`` holds, if it has finished with these settings: there is nothing to do.

    Raises:
        ConfigError: it has finished with other settings.
    """
    run = RunFolder(Path(config.run_folder).absolute()) if config.run_folder is not None else None
    if run is None or not run.has_finished:
        return None
    same_step_as(config, run)
    if changed := run.changed_settings(to_dict(config)):
        raise ConfigError(
            f"{run.path} holds a finished run with other settings ({describe_changes(changed)}): name another folder, "
            f"and checkpoint={run.path} if the new run is to start from its weights; or let it go on by "
            f"resume={run.path} schedule.iterations=N"
        )
    return run


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


def changed_settings(run: RunFolder, config: TrainConfig, classes: ClassTable) -> dict[str, tuple[Any, Any]]:
    """What the interrupted ``run`` goes on with otherwise than before, key → (before, now).

    Raises:
        ConfigError: something is other that can't change in a run.
    """
    changed = run.changed_settings(to_dict(config))
    names, _ = run.read_classes()
    if names and names != tuple(classes.names):
        changed["classes"] = (f"{len(names)} names", f"{len(classes.names)} others")
    if fixed := {key: pair for key, pair in changed.items() if key in _FIXED}:
        raise ConfigError(
            f"the run in {run.path} can't go on with other settings of {describe_changes(fixed)}: take them back, or "
            "start a new run"
        )
    return changed


def describe_changes(changed: Mapping[str, tuple[Any, Any]]) -> str:
    """For example ``schedule.lr: 6e-05 → 0.0001``, one after the other."""
    return ", ".join(f"{key}: {before} → {now}" for key, (before, now) in sorted(changed.items()))
