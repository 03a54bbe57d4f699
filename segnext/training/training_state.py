"""The checkpoints of a run, weights for use and one file from which training goes on exactly; and finding that run.

latest.safetensors            weights after the latest saved iteration
best.safetensors              weights of the best evaluation
latest.resume.safetensors     weights, both moments, the iteration, a loss scale: all that resuming needs, in one file,
                              so that no crash between two writes can mix two iterations
previous.resume.safetensors   the same as it was one save earlier: what is taken where the latest is damaged

Each holds a checksum of the rest of it. A damaged file is set aside under the name ``damaged.…``.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from segnext.backend.world import World
from segnext.distributed.communicator import Communicator
from segnext.errors import ConfigError, WeightsError
from segnext.tracking.events import MOST_ITERATIONS, read_events
from segnext.tracking.run_folder import RunFolder
from segnext.training.loss import LossScale
from segnext.training.meters import LossMeter
from segnext.training.optimizer import AdamW
from segnext.weights.checkpoint import CheckpointInfo
from segnext.weights.saving import save_weights

__all__ = ["Checkpoints", "evaluated", "find_run", "require_state", "sound_best"]

logger = logging.getLogger(__name__)

_MODEL = "model/"
_LATEST, _PREVIOUS = "latest.resume.safetensors", "previous.resume.safetensors"
_CHECKSUM = "checksum"

Arrays = Mapping[str, NDArray[Any]]


class Checkpoints:
    """Saves to and restores from ``folder``.

    Args:
        info: what the weights files say about themselves; iteration and mIoU are filled in.
        communicator: rank 0 of it reads and writes, the others get from it what it has read.
        loss_scale, losses: parts of the state where they are given.
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
        losses: LossMeter | None = None,
    ) -> None:
        self._folder = folder
        self._model = model
        self._optimizer = optimizer
        self._info = info
        self._communicator = communicator or Communicator(World())
        self._parts = [part for part in (loss_scale, losses) if part is not None]
        self._best: float | None = None

    @property
    def resume_file(self) -> Path:
        return self._folder / _LATEST

    def save_latest(self, iteration: int) -> None:
        """Writes the state after ``iteration`` iterations."""
        if not self._communicator.is_main:
            return
        arrays = {_MODEL + name: var.numpy() for name, var in self._model.tensors().items()}
        arrays |= self._optimizer.state()
        progress: dict[str, Any] = {"iteration": iteration, "steps": self._optimizer.steps}
        for part in self._parts:
            progress |= part.state()
        if self.resume_file.is_file():
            os.replace(self.resume_file, self._folder / _PREVIOUS)
        _save_with_checksum(arrays, self.resume_file, {name: json.dumps(value) for name, value in progress.items()})
        self._save("latest.safetensors", iteration)

    def save_if_best(self, iteration: int, miou: float) -> bool:
        """Keeps the weights if ``miou`` beats every evaluation before; returns whether it does."""
        if self._best is not None and not miou > self._best:
            return False
        self._best = miou
        if self._communicator.is_main:
            self._save("best.safetensors", iteration, miou)
        return True

    def begin(self) -> int:
        """Gives all ranks the weights that rank 0 begins with; returns 0, the number of iterations done."""
        self._communicator.broadcast_variables(self._model.tensors())
        return 0

    def _save(self, name: str, iteration: int, miou: float | None = None) -> None:
        info = replace(self._info, iteration=iteration, mIoU=miou)
        arrays = {name: var.numpy() for name, var in self._model.tensors().items()}
        _save_with_checksum(arrays, self._folder / name, info.to_metadata())

    def restore(self) -> int:
        """Puts model and optimizer back to the latest state that is sound; returns the number of iterations done.

        Raises:
            WeightsError: no state was saved, none is sound, or it is of another model.
        """
        iteration = self._communicator.broadcast(self._read() if self._communicator.is_main else 0)
        self._communicator.broadcast_variables(self._model.tensors())
        self._communicator.broadcast_variables(self._optimizer.moments())
        self._optimizer.steps = self._communicator.broadcast(self._optimizer.steps)
        self._best = self._communicator.broadcast(self._best)
        for part in self._parts:
            part.load_state(self._communicator.broadcast(part.state()))
        return iteration

    def _read(self) -> int:
        state = _latest_sound(self._folder)
        tensors = self._model.tensors()
        stored = {name[len(_MODEL) :]: array for name, array in state.arrays.items() if name.startswith(_MODEL)}
        if {name: tuple(var.shape) for name, var in tensors.items()} != {n: a.shape for n, a in stored.items()}:
            raise WeightsError(f"{self.resume_file} is of another model: give the model and dataset of that run")
        for name, var in tensors.items():
            var.assign(np.ascontiguousarray(stored[name]))
        self._optimizer.load_state(state.arrays, steps=state.steps)
        try:
            for part in self._parts:
                part.load_state(state.progress)
        except (KeyError, TypeError, ValueError) as error:
            raise WeightsError(f"{self.resume_file} is damaged ({error!r}): start a new run") from error
        best = sound_best(self._folder)
        self._best = best.mIoU if best is not None else None
        return state.iteration


@dataclass(frozen=True)
class _ResumeState:
    """What a resume file holds; ``progress`` is its metadata as text."""

    arrays: Arrays
    progress: Mapping[str, str]
    iteration: int
    steps: int

    @classmethod
    def read(cls, file: Path) -> _ResumeState:
        """Raises WeightsError when the file is damaged or says what cannot be."""
        arrays, metadata = _read_sound(file)
        try:
            state = cls(arrays, metadata, int(metadata["iteration"]), int(metadata["steps"]))
        except (KeyError, ValueError) as error:
            raise WeightsError(f"{file} is damaged ({error!r})") from error
        if not 0 <= state.steps <= state.iteration <= MOST_ITERATIONS:
            raise WeightsError(f"{file} is damaged (iteration {state.iteration}, {state.steps} steps)")
        return state


def require_state(folder: Path) -> None:
    """Raises WeightsError unless a run can go on from what is in ``folder``; damaged files are set aside."""
    _latest_sound(folder)


def _latest_sound(folder: Path) -> _ResumeState:
    files = [file for file in (folder / _LATEST, folder / _PREVIOUS) if file.is_file()]
    problems = []
    for file in files:
        try:
            return _ResumeState.read(file)
        except WeightsError as error:
            problems.append(str(error))
            logger.warning("%s: set aside, what was saved before it is taken where there is anything", error)
            _set_aside(file)
    if not problems:
        raise WeightsError(f"{folder / _LATEST} does not exist: the run was stopped before its first checkpoint")
    raise WeightsError(f"{'; '.join(problems)}: start a new run, from checkpoint={folder.parent} if you like")


def sound_best(folder: Path) -> CheckpointInfo | None:
    """What the best weights in ``folder`` say of themselves; None without any, and for damaged ones, set aside."""
    file = folder / "best.safetensors"
    if not file.is_file():
        return None
    try:
        _read_sound(file)
        return CheckpointInfo.read(file)
    except WeightsError as error:
        logger.warning("%s: set aside, the next evaluation makes new best weights", error)
        _set_aside(file)
        return None


def _read_sound(file: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Arrays and metadata; WeightsError where the file cannot be read or does not have its checksum."""
    try:
        with safe_open(file, framework="numpy") as content:
            metadata = content.metadata() or {}
            arrays = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        raise WeightsError(f"{file} is damaged ({error})") from error
    checksum = metadata.pop(_CHECKSUM, None)  # files of earlier versions have none
    if checksum is not None and checksum != _checksum(arrays, metadata):
        raise WeightsError(f"{file} is damaged (its checksum is wrong)")
    return arrays, metadata


def _save_with_checksum(arrays: Arrays, file: Path, metadata: Mapping[str, str]) -> None:
    save_weights(arrays, file, metadata={**metadata, _CHECKSUM: _checksum(arrays, metadata)})


def _checksum(arrays: Arrays, metadata: Mapping[str, str]) -> str:
    digest = hashlib.sha256(repr(sorted(metadata.items())).encode())
    for name in sorted(arrays):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()


def _set_aside(file: Path) -> None:
    os.replace(file, file.with_name(f"damaged.{file.name}"))


def find_run(resume: str, *, root: str | Path, name: str, iterations: int = 0) -> RunFolder | None:
    """The folder of the run to go on with.

    Args:
        resume: a run folder, or ``auto`` for the latest run called ``name`` below ``root`` that has a checkpoint and
            has not finished.
        iterations: of the whole schedule; a finished run that has done fewer goes on.

    Returns:
        None when ``auto`` finds no such run.

    Raises:
        ConfigError: the folder named holds no run, or one that has nothing left to do.
    """
    if resume == "auto":
        candidates = sorted((Path(root) / name).glob("*/status.json"), key=lambda path: path.stat().st_mtime)
        runs = [RunFolder.open(path.parent) for path in candidates]
        unfinished = [run for run in runs if not _finished(run) and run.can_go_on]
        return unfinished[-1] if unfinished else None
    run = RunFolder.open(resume)
    done = run.read_metrics().get("iteration") or 0
    if _finished(run) and iterations <= done:
        raise ConfigError(
            f"resume={resume} has finished after {done} iterations: give more by schedule.iterations=N, or start a new "
            f"run from its weights by checkpoint={resume}"
        )
    return run


def evaluated(run: RunFolder, iteration: int) -> bool:
    """Whether all that an evaluation after ``iteration`` iterations leaves is there: record, images, best weights.

    A stop may have come before any of them.
    """
    events = [event for event in read_events(run.events) if event.iteration == iteration]
    scores = [event.metrics["val/mIoU"] for event in events if "val/mIoU" in event.metrics]
    if not scores or not any(event.kind == "images" for event in events):
        return False
    best = sound_best(run.checkpoints)
    return math.isnan(scores[-1]) or (best is not None and best.mIoU is not None and best.mIoU >= scores[-1])


def _finished(run: RunFolder) -> bool:
    status = run.read_status()
    return status is not None and status.state == "finished"
