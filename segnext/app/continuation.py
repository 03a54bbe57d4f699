"""What becomes of a run that is started again in its folder: nothing, if it has finished, or it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segnext.app.memory import same_step_as
from segnext.app.resolution import to_dict
from segnext.app.schema import TrainConfig
from segnext.data.classes import ClassTable
from segnext.errors import ConfigError
from segnext.tracking.run_folder import RunFolder

__all__ = ["changed_settings", "describe_changes", "finished_run"]

_FIXED = ("classes", "dataset.name", "model.ham.rank", "model.name", "model.nmf_rank")  # while a run lasts


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
