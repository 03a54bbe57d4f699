"""The folder of one training run: where each file lies, and how it gets there whole.

    config.yaml     the resolved configuration
    events.jsonl    every logged record (see ``events.py``), the truth
    metrics.json    figures of the run so far; numbers, fractions 0…1, null where there is none
    status.json     state, error, exit_reason, pid, host, started, updated (Unix seconds), attempts, exit_code, signal
    classes.json    names and palette of the classes
    train.log       what was said
    checkpoints/    latest… and best…
    images/         a few validation images with true and predicted labels
    curves.png      loss, rate and mIoU
    evaluation/     tables of the best evaluation, its best and its worst images
    samples/        the same images, side by side with their labels in colour, at the best evaluation
    wandb/          whatever W&B writes
    ranks/          a log per rank, in a run of several

A run is done when ``status.json`` says ``finished``; ``metrics.json`` alone exists from the first evaluation on. The
folder is idempotent: a run started in one that has finished does nothing, in one that was interrupted it goes on. One
process at a time works in it, held by a lock on ``.lock``.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import psutil
from numpy.typing import NDArray

from segnext.errors import ConfigError, TrainingError
from segnext.files import FileLock, read_json, read_yaml, remove_unfinished, strict_json, write_atomically

__all__ = ["LOCKED_FOR", "NOT_COMPUTED", "RunFolder", "State", "Status", "select"]

State = Literal["running", "finished", "failed", "interrupted", "pruned"]

_FRACTIONS = frozenset({"mIoU", "mAcc", "aAcc", "best_mIoU", "mIoU_ms", "boundary_mIoU"})
_COUNTS = frozenset({"iteration", "best_iteration", "params", "macs", "flops"})

_CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028-\\u202e]")  # line ends, what terminals obey, changes of direction

# Settings that say how and where a run is made, not what it computes.
NOT_COMPUTED = frozenset({
    "device", "experiment", "name", "output_dir", "rank_timeout", "ranks", "resume", "run_folder", "sweep", "tracking",
    "workers",
})  # fmt: skip

# Names the folder whose lock whoever started this process holds on its behalf (a sweep does).
LOCKED_FOR = "SEGNEXT_RUN_LOCKED"


@dataclass(frozen=True)
class Status:
    """What ``status.json`` says. Times are Unix seconds.

    ``pruned``: stopped because its curve was hopeless. ``attempts``: processes that have worked on the run.
    ``exit_code`` and ``signal``: how the last of them ended, where the one that started it has noted it.
    """

    state: State
    error: str | None
    exit_reason: str | None
    pid: int
    host: str
    started: float
    updated: float
    attempts: int = 1
    exit_code: int | None = None
    signal: str | None = None

    def __post_init__(self) -> None:
        """Raises TypeError or ValueError for anything else than what ``write_status`` writes."""
        if self.state not in get_args(State):
            raise ValueError(f"state {self.state!r}")
        texts = (self.error, self.exit_reason, self.signal)
        numbers = (self.pid, self.started, self.updated, self.attempts, self.exit_code or 0)
        if not all(text is None or isinstance(text, str) for text in texts) or not isinstance(self.host, str):
            raise TypeError("text belongs here")
        if not all(isinstance(n, int | float) and abs(n) < 2**53 for n in numbers) or not isinstance(self.pid, int):
            raise TypeError("a number belongs here")

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
        if not name or Path(name).is_absolute() or ".." in Path(name).parts or _CONTROL.search(name):
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
        if _CONTROL.search(str(path)):
            raise ConfigError(f"run_folder={str(path)!r} cannot name a run: use letters, digits, '-' and '_'")
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

    @property
    def has_finished(self) -> bool:
        """Whether the run is done: there is nothing to start any more."""
        status = self.read_status()
        return status is not None and status.state == "finished" and bool(self.read_metrics())

    @property
    def can_go_on(self) -> bool:
        """Whether the run has saved what it needs to go on from its latest checkpoint."""
        return any((self.checkpoints / f"{state}.resume.safetensors").is_file() for state in ("latest", "previous"))

    def lock(self) -> FileLock | None:
        """The right to work in the folder until this process ends or releases it; None while somebody else has it."""
        return FileLock.take(self.path / ".lock")

    def claim(self) -> None:
        """Takes the folder for the rest of this process, unless whoever started it has done so, and tidies it.

        Raises:
            ConfigError: another run is at work in it.
        """
        if os.environ.get(LOCKED_FOR) == str(self.path):
            self._sweep()
            return
        if (lock := self.lock()) is not None:
            os.register_at_fork(after_in_child=lock.release)  # loader workers may outlive this process by moments
            self._sweep()
            return
        status = self.read_status()
        by = f" (process {status.pid} on {status.host})" if status is not None else ""
        raise ConfigError(f"{self.path} is in use by another run{by}: wait for its end, or name another folder")

    def _sweep(self) -> None:
        """Removes what a process left behind that was killed while it wrote."""
        remove_unfinished(self.path)
        remove_unfinished(self.checkpoints)

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
    def evaluation(self) -> Path:
        return self.path / "evaluation"

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
        same = before is not None and before.pid == os.getpid()
        started = before.started if before is not None and same else now
        # Whoever has started this process for the folder has counted it already.
        counted = same or os.environ.get(LOCKED_FOR) == str(self.path)
        attempts = 1 if before is None else before.attempts + (not counted)
        self.put_status(Status(state, error, exit_reason, os.getpid(), socket.gethostname(), started, now, attempts))

    def complete_status(
        self,
        status: Status,
        state: State,
        *,
        error: str | None = None,
        exit_reason: str | None = None,
        exit_code: int | None = None,
        signal: str | None = None,
    ) -> None:
        """Writes ``status.json`` for a process that is gone and whose last word was ``status``."""
        ending: dict[str, Any] = {"error": error, "exit_reason": exit_reason, "exit_code": exit_code, "signal": signal}
        self.put_status(replace(status, state=state, updated=time.time(), **ending))

    def put_status(self, status: Status) -> None:
        """Writes ``status.json`` as it is given."""
        text = strict_json(vars(status), indent=2) + "\n"
        try:
            write_atomically(self.status, text)
        except TrainingError:
            # On a full disk the room that the file has is all there is.
            if not self.status.is_file():
                raise
            try:
                with self.status.open("r+", encoding="utf-8", errors="backslashreplace") as file:
                    file.write(text)
                    file.truncate()
            except OSError as error:
                raise TrainingError(f"cannot write {self.status} ({error.strerror}): free disk space") from error

    def read_status(self) -> Status | None:
        """What ``status.json`` says; None when it is missing or damaged."""
        try:
            return Status(**read_json(self.status))
        except (OSError, ValueError, TypeError):
            return None

    def write_metrics(self, figures: Mapping[str, Any]) -> None:
        """Writes ``metrics.json``; non-finite numbers become null."""
        write_atomically(self.metrics, strict_json(figures, indent=2) + "\n")

    def read_metrics(self) -> dict[str, Any]:
        """What ``metrics.json`` holds; empty when it is missing or damaged, without figures that cannot be."""
        figures = _read_object(self.metrics)
        return {name: figure for name, figure in figures.items() if _possible(name, figure)}

    def write_classes(self, names: Sequence[str], palette: NDArray[np.uint8]) -> None:
        """Writes ``classes.json`` from K names and a (K, 3) uint8 RGB palette."""
        write_atomically(self.classes, strict_json({"names": list(names), "palette": palette}) + "\n")

    def read_classes(self) -> tuple[tuple[str, ...], NDArray[np.uint8]]:
        """Names and (K, 3) uint8 palette of the classes; both empty when unknown."""
        record = _read_object(self.classes)
        try:
            palette = np.array(record["palette"], np.uint8).reshape(-1, 3)
            names = tuple(str(name) for name in record["names"] if isinstance(name, str))
        except (KeyError, TypeError, ValueError, OverflowError):
            names = ()
        return (names, palette) if 0 < len(names) == len(palette) else ((), np.zeros((0, 3), np.uint8))

    def read_config(self) -> dict[str, Any]:
        """What ``config.yaml`` holds; empty when it is missing or damaged."""
        try:
            value = read_yaml(self.config)
        except (OSError, ValueError):
            return {}
        return {str(key): item for key, item in value.items()} if isinstance(value, dict) else {}

    def changed_settings(self, settings: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """Dotted key → (recorded, given) where ``settings`` differ from ``config.yaml`` in what is computed.

        A key that either of them lacks, because another release wrote the file, is passed over.
        """
        recorded = {key: value for key, value in self.read_config().items() if key not in NOT_COMPUTED}
        return dict(_differences(recorded, settings))


def select(config: Mapping[str, Any], key: str, default: Any = None) -> Any:
    """What a dotted ``key`` stands for in ``config``, or ``default`` where there is no such key."""
    node: Any = config
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return default
        node = node[part]
    return node


def _differences(recorded: Mapping[str, Any], given: Mapping[str, Any]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    for key in recorded.keys() & given.keys():
        before, now = recorded[key], given[key]
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            yield from ((f"{key}.{name}", pair) for name, pair in _differences(before, now))
        elif before != now:
            yield key, (before, now)


def _possible(name: str, figure: Any) -> bool:
    if figure is None:
        return True
    if name in _FRACTIONS:
        return isinstance(figure, int | float) and 0 <= figure <= 1
    return name not in _COUNTS or (isinstance(figure, int) and 0 <= figure < 2**63)


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = read_json(path)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
