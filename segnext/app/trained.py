"""What evaluate and predict share: a trained model, the classes it knows, and the folder of what comes out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segnext import backend
from segnext.app import CommonConfig, to_yaml
from segnext.app.build import build_model, initial_weights
from segnext.data.datasets import Dataset
from segnext.distributed.communicator import Communicator
from segnext.errors import ConfigError
from segnext.tracking.run_folder import RunFolder
from segnext.weights.checkpoint import CheckpointInfo

__all__ = ["load_model", "open_run_folder", "read_weights", "recorded", "require_fit"]


def require_fit(info: CheckpointInfo | None, *, model: str, dataset: Dataset, checkpoint: str) -> None:
    """Raises ConfigError when a checkpoint says it is of another size or other classes than asked for."""
    if info is None:
        return
    if info.model != model:
        raise ConfigError(f"checkpoint {checkpoint} is of model={info.model}, not {model}: add model={info.model}")
    if len(info.classes) != len(dataset.classes):
        raise ConfigError(
            f"checkpoint {checkpoint} knows the {len(info.classes)} classes of {info.dataset}, "
            f"dataset={dataset.classes.name} has {len(dataset.classes)}: name the data it was trained for"
        )


def read_weights(
    config: CommonConfig, path: Path, info: CheckpointInfo | None, *, num_classes: int
) -> dict[str, NDArray[np.float32]]:
    """The weights of ``path`` for ``config.model``, which takes over the NMF's rank; WeightsError unless all fit."""
    if info is not None:
        config.model.ham.rank = info.nmf_rank
    return initial_weights(config.model, num_classes=num_classes, checkpoint=path)


def load_model(config: CommonConfig, path: Path, info: CheckpointInfo | None, *, num_classes: int) -> Any:
    """The model of ``config.model`` with the weights of ``path``; WeightsError unless they fit completely."""
    backend.start(config.device.value, announce=print, log=backend.default_log())
    weights = read_weights(config, path, info, num_classes=num_classes)
    return build_model(
        config.model, num_classes=num_classes, precision=config.precision, seed=config.seed, weights=weights
    )


def open_run_folder(config: CommonConfig, name: str) -> RunFolder:
    """A new folder below ``output_dir``, or the one named by ``run_folder``, holding the resolved configuration.

    Raises:
        ConfigError: the folder holds a finished run or belongs to one that is at work.
    """
    folder = RunFolder.adopt(config.run_folder) if config.run_folder else RunFolder.create(config.output_dir, name)
    if folder.has_finished:
        raise ConfigError(f"run_folder={config.run_folder} holds a finished run: name another folder")
    folder.claim()
    folder.write_config(to_yaml(config))
    return folder


@contextmanager
def recorded(folder: RunFolder, *, by: Communicator | None = None) -> Iterator[None]:
    """Keeps ``status.json`` of the folder: running, then how it ended; rank 0 alone does so."""
    if by is not None and not by.is_main:
        yield
        return
    folder.write_status("running")
    try:
        yield
    except KeyboardInterrupt:
        folder.write_status("interrupted", exit_reason="stopped by the user")
        raise
    except BaseException as error:
        folder.write_status("failed", error=str(error), exit_reason=type(error).__name__)
        raise
    folder.write_status("finished")
