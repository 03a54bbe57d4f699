"""The checkpoints of a run, weights for use and one file from which training goes on exactly; and finding that run.

latest.safetensors          weights after the latest saved iteration
best.safetensors            weights of the best evaluation
latest.resume.safetensors   weights, both moments, the iteration, a loss scale: all that resuming needs, in one file, so
                            that no crash between two writes can mix two iterations
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from segnext.backend.world import World
from segnext.distributed.communicator import Communicator
from segnext.errors import ConfigError, WeightsError
from segnext.tracking.events import read_events
from segnext.tracking.run_folder import RunFolder
from segnext.training.loss import LossScale
from segnext.training.optimizer import AdamW
from segnext.weights.checkpoint import CheckpointInfo
from segnext.weights.saving import save_weights

__all__ = ["Checkpoints", "evaluated", "find_run"]

_MODEL = "model/"
_RESUME_FILE = "latest.resume.safetensors"


class Checkpoints:
    """Saves to and restores from ``folder``.

    Args:
        info: what the weights files say about themselves; iteration and mIoU are filled in.
        communicator: rank 0 of it reads and writes, the others get from it what it has read.
        loss_scale: part of the state where there is one.
    """

    def __init__(
        self,
        folder: Path,
        model: Any,
        optimizer: AdamW,
        info: CheckpointInfo,
        *,
        communicator: Communicator | None = None,
        loss_scale: LossScale | None = None,
    ) -> None:
        self._folder = folder
        self._model = model
        self._optimizer = optimizer
        self._info = info
        self._communicator = communicator or Communicator(World())
        self._loss_scale = loss_scale
        self._best: float | None = None

    @property
    def resume_file(self) -> Path:
        return self._folder / _RESUME_FILE

    def save_latest(self, iteration: int) -> None:
        """Writes the state after ``iteration`` iterations."""
        if not self._communicator.is_main:
            return
        arrays = {_MODEL + name: var.numpy() for name, var in self._model.tensors().items()}
        arrays |= self._optimizer.state()
        progress: dict[str, Any] = {"iteration": iteration, "steps": self._optimizer.steps}
        if self._loss_scale:
            progress |= self._loss_scale.state()
        save_weights(arrays, self.resume_file, metadata=progress)
        self._save("latest.safetensors", iteration)

    def save_if_best(self, iteration: int, miou: float) -> None:
        """Keeps the weights if ``miou`` beats every evaluation before."""
        if self._best is None or miou > self._best:
            self._best = miou
            if self._communicator.is_main:
                self._save("best.safetensors", iteration, miou)

    def begin(self) -> int:
        """Gives all ranks the weights that rank 0 begins with; returns 0, the number of iterations done."""
        self._communicator.broadcast_variables(self._model.tensors())
        return 0

    def _save(self, name: str, iteration: int, miou: float | None = None) -> None:
        info = replace(self._info, iteration=iteration, mIoU=miou)
        save_weights(self._model, self._folder / name, metadata=info.to_metadata())

    def restore(self) -> int:
        """Puts model and optimizer back to the latest saved state; returns the number of iterations done.

        Raises:
            WeightsError: the file is missing, damaged, or of another model.
        """
        iteration = self._communicator.broadcast(self._read() if self._communicator.is_main else 0)
        self._communicator.broadcast_variables(self._model.tensors())
        self._communicator.broadcast_variables(self._optimizer.moments())
        self._optimizer.steps = self._communicator.broadcast(self._optimizer.steps)
        self._best = self._communicator.broadcast(self._best)
        if self._loss_scale:
            self._loss_scale.load_state(self._communicator.broadcast(self._loss_scale.state()))
        return iteration

    def _read(self) -> int:
        if not self.resume_file.is_file():
            raise WeightsError(f"{self.resume_file} does not exist: the run was stopped before its first checkpoint")
        try:
            with safe_open(self.resume_file, framework="numpy") as file:
                metadata = file.metadata()
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            iteration, steps = int(metadata["iteration"]), int(metadata["steps"])
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise WeightsError(f"{self.resume_file} is damaged ({error}): start a new run") from error
        tensors = self._model.tensors()
        stored = {name[len(_MODEL) :]: array for name, array in arrays.items() if name.startswith(_MODEL)}
        if {name: tuple(var.shape) for name, var in tensors.items()} != {n: a.shape for n, a in stored.items()}:
            raise WeightsError(f"{self.resume_file} is of another model: give the model and dataset of that run")
        for name, var in tensors.items():
            var.assign(np.ascontiguousarray(stored[name]))
        self._optimizer.load_state(arrays, steps=steps)
        if self._loss_scale and "loss_scale" in metadata:  # missing if the run was of another precision so far
            self._loss_scale.load_state(metadata)
        best = self._folder / "best.safetensors"
        self._best = info.mIoU if best.is_file() and (info := CheckpointInfo.read(best)) else None
        return iteration


def find_run(resume: str, *, root: str | Path, name: str) -> RunFolder | None:
    """The folder of the run to go on with.

    Args:
        resume: a run folder, or ``auto`` for the latest run called ``name`` below ``root`` that has a checkpoint and
            has not finished.

    Returns:
        None when ``auto`` finds no such run.

    Raises:
        ConfigError: the folder named holds no run, or a finished one.
    """
    if resume == "auto":
        candidates = sorted((Path(root) / name).glob("*/status.json"), key=lambda path: path.stat().st_mtime)
        runs = [RunFolder.open(path.parent) for path in candidates]
        unfinished = [run for run in runs if not _finished(run) and run.can_go_on]
        return unfinished[-1] if unfinished else None
    run = RunFolder.open(resume)
    if _finished(run):
        raise ConfigError(f"resume={resume} has finished: start a new run, or raise schedule.iterations in a new one")
    return run


def evaluated(run: RunFolder, iteration: int) -> bool:
    """Whether the log holds an evaluation after ``iteration`` iterations (a stop may have come between save and it)."""
    return any(event.kind == "val" and event.iteration == iteration for event in read_events(run.events))


def _finished(run: RunFolder) -> bool:
    status = run.read_status()
    return status is not None and status.state == "finished"
