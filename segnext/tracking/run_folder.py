"""The folder of one training run: where each file lies, and how it gets there whole.

    config.yaml     the resolved configuration
    events.jsonl    every logged record (see ``events.py``), the truth
    metrics.json    figures of the run so far; numbers, fractions 0…1, null where there is none
    status.json     state, error, exit_reason, pid, host, started, updated (Unix seconds)
    classes.json    names and palette of the classes
    train.log       what was said
    checkpoints/    latest… and best…
    images/         a few validation images with true and predicted labels
    curves.png      loss, rate and mIoU
    samples/        the same images, side by side with their labels in colour, at the best evaluation
    wandb/          whatever W&B writes
    ranks/          a log per rank, in a run of several

A run is done when ``status.json`` says ``finished``; ``metrics.json`` alone exists from the first evaluation on.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import psutil
from numpy.typing import NDArray

from segnext.errors import ConfigError
from segnext.files import strict_json, write_atomically

__all__ = ["RunFolder", "State", "Status"]

State = Literal["running", "finished", "failed", "interrupted"]


@dataclass(frozen=True)
class Status:
    """What ``status.json`` says. Times are Unix seconds."""

    state: State
    error: str | None
    exit_reason: str | None
    pid: int
    host: str
    started: float
    updated: float

    @property
    def lost(self) -> bool:
        """Whether the run claims to be running on this machine while its process is gone (killed, power cut)."""
        if self.state != "running" or self.host != socket.gethostname():
            return False
        try:
            # A process younger than the claim has been given the number anew.
            return bool(psutil.Process(self.pid).create_time() > self.updated + 1)
        except psutil.NoSuchProcess:
            return True


@dataclass(frozen=True)
class RunFolder:
    """Paths and small files of one run. ``path`` is absolute."""

    path: Path

    @classmethod
    def create(cls, root: str | Path, name: str) -> RunFolder:
        """Makes ``root/name/<timestamp>``, which no other run has, not even one started in the same second."""
        if not name or Path(name).is_absolute() or ".." in Path(name).parts:
            raise ConfigError(f"{name!r} cannot name a run: use letters, digits, '-' and '_'")
        parent = Path(root).absolute() / name
        stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        try:
            parent.mkdir(parents=True, exist_ok=True)
            attempt = 1
            while True:
                path = parent / (stamp if attempt == 1 else f"{stamp}-{attempt}")
                try:
                    path.mkdir()  # mkdir either makes the folder or fails: two starts cannot get the same one
                    return cls(path)._furnished()
                except FileExistsError:
                    attempt += 1
        except OSError as error:
            raise ConfigError(
                f"cannot make a run folder in {parent} ({error.strerror}): choose another place"
            ) from error

    @classmethod
    def adopt(cls, path: str | Path) -> RunFolder:
        """Takes ``path`` (a sweep's job folder, say) as the run's folder, making it where it is missing."""
        try:
            Path(path).mkdir(parents=True, exist_ok=True)
            return cls(Path(path).absolute())._furnished()
        except OSError as error:
            raise ConfigError(f"cannot make the run folder {path} ({error.strerror}): choose another place") from error

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """Opens the folder of an earlier run, for resuming or reading.

        Raises:
            ConfigError: there is no run in ``path``.
        """
        folder = cls(Path(path).absolute())
        if not folder.is_run(folder.path):
            raise ConfigError(
                f"{path} is no run folder (it has neither events.jsonl, status.json nor metrics.json): "
                "name a folder below outputs/ that holds one of them"
            )
        return folder

    @staticmethod
    def is_run(path: str | Path) -> bool:
        """Whether a run has begun in ``path``."""
        return any((Path(path) / name).is_file() for name in ("events.jsonl", "status.json", "metrics.json"))

    def _furnished(self) -> RunFolder:
        self.checkpoints.mkdir(exist_ok=True)
        return self

    @property
    def name(self) -> str:
        """The run's name for people: the last two parts of its path."""
        return "/".join(self.path.parts[-2:])

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.json"

    @property
    def status(self) -> Path:
        return self.path / "status.json"

    @property
    def classes(self) -> Path:
        return self.path / "classes.json"

    @property
    def log(self) -> Path:
        return self.path / "train.log"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def images(self) -> Path:
        return self.path / "images"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    @property
    def curves(self) -> Path:
        return self.path / "curves.png"

    def write_config(self, yaml: str) -> None:
        """Writes ``config.yaml``."""
        write_atomically(self.config, yaml)

    def write_status(self, state: State, *, error: str | None = None, exit_reason: str | None = None) -> None:
        """Writes ``status.json``; ``started`` is kept from the first write of this process."""
        if state not in get_args(State):
            raise ConfigError(f"unknown state {state!r}: choose one of {', '.join(get_args(State))}")
        now, before = time.time(), self.read_status()
        started = before.started if before is not None and before.pid == os.getpid() else now
        record = Status(state, error, exit_reason, os.getpid(), socket.gethostname(), started, now)
        write_atomically(self.status, strict_json(vars(record), indent=2) + "\n")

    def complete_status(
        self, status: Status, state: State, *, error: str | None = None, exit_reason: str | None = None
    ) -> None:
        """Writes ``status.json`` for a process that is gone and whose last word was ``status``."""
        record = replace(status, state=state, error=error, exit_reason=exit_reason, updated=time.time())
        write_atomically(self.status, strict_json(vars(record), indent=2) + "\n")

    def read_status(self) -> Status | None:
        """What ``status.json`` says; None when it is missing or damaged."""
        try:
            return Status(**json.loads(self.status.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def write_metrics(self, figures: Mapping[str, Any]) -> None:
        """Writes ``metrics.json``; non-finite numbers become null."""
        write_atomically(self.metrics, strict_json(figures, indent=2) + "\n")

    def read_metrics(self) -> dict[str, Any]:
        """What ``metrics.json`` holds; empty when it is missing or damaged."""
        return _read_object(self.metrics)

    def write_classes(self, names: Sequence[str], palette: NDArray[np.uint8]) -> None:
        """Writes ``classes.json`` from K names and a (K, 3) uint8 RGB palette."""
        write_atomically(self.classes, strict_json({"names": list(names), "palette": palette}) + "\n")

    def read_classes(self) -> tuple[tuple[str, ...], NDArray[np.uint8]]:
        """Names and (K, 3) uint8 palette of the classes; both empty when unknown."""
        record = _read_object(self.classes)
        palette = np.array(record.get("palette", []), np.uint8).reshape(-1, 3)
        return tuple(record.get("names", ())), palette


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
