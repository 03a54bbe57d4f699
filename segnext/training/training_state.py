"""The checkpoints of a run: weights for use, and one file from which training goes on exactly.

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

from segnext.distributed.communicator import Communicator
from segnext.distributed.world import World
from segnext.errors import WeightsError
from segnext.training.loss_scale import LossScale
from segnext.training.optimizer import AdamW
from segnext.weights.checkpoint import CheckpointInfo
from segnext.weights.saving import save_weights

__all__ = ["Checkpoints"]

_MODEL = "model/"


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
        return self._folder / "latest.resume.safetensors"

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
