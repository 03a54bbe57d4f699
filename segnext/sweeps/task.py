"""Sweeps by Hydra's other launchers (joblib, submitit) and sweepers (Optuna): each of their calls runs one job."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass

import hydra
import psutil
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console

from segnext import app as schemas
from segnext.app import TrainConfig
from segnext.errors import ConfigError
from segnext.sweeps.command import SweepCommand, quoted
from segnext.sweeps.ledger import Ledger, Record
from segnext.sweeps.policy import OnFailure
from segnext.sweeps.scheduler import SETTLED
from segnext.sweeps.search import prepare_search
from segnext.sweeps.table import SweepDisplay

__all__ = ["SweepTask", "run_by_hydra"]


@dataclass(frozen=True)
class SweepTask:
    """The function that launchers call for each job, maybe in another process or on another machine.

    It returns the objective, best mIoU, or None when the job has failed.
    """

    command: SweepCommand
    began: float
    host: str
    owner: int  # process of the sweep

    def __call__(self, composed: DictConfig) -> float | None:
        self._end_with_owner()
        ledger, on_failure = Ledger(self.command.folder), OnFailure.parse(self.command.settings.on_failure)
        if on_failure.stop and any(r.state == "failed" and (r.ended or 0) > self.began for r in ledger.records()):
            return None
        overrides = list(HydraConfig.get().overrides.task)
        try:
            job = self.command.job(schemas.resolve(composed, TrainConfig), overrides)
        except ConfigError as error:
            name = self.command.name(overrides)
            folder, now = str(self.command.folder / name), time.time()
            ledger.write(Record(name, tuple(overrides), folder, "failed", error.exit_code, error=str(error), ended=now))
            return None
        with SweepDisplay([job], console=Console(force_terminal=False, highlight=False)) as display:
            received = self.command.scheduler([job], display).run([job])
        if received is not None:
            raise SystemExit(128 + received)
        record = ledger.read(job)
        return record.best_mIoU if record.state in SETTLED else None

    def _end_with_owner(self) -> None:
        """Sees to it that a worker process on the sweep's own machine ends with the sweep, and its job with it."""
        elsewhere = self.host != socket.gethostname() or self.command.launcher == "submitit_slurm"
        if elsewhere or self.owner == os.getpid() or any(t.name == _WATCH for t in threading.enumerate()):
            return

        def watch() -> None:
            with contextlib.suppress(psutil.NoSuchProcess):
                owner = psutil.Process(self.owner)
                while owner.is_running() and owner.status() != psutil.STATUS_ZOMBIE:
                    time.sleep(0.2)
            os._exit(1)  # the guard of the job in hand notices and stops it

        threading.Thread(target=watch, name=_WATCH, daemon=True).start()


_WATCH = "sweep-owner"


def run_by_hydra(command: SweepCommand) -> int | None:
    """Runs the sweep through Hydra's launcher and sweeper.

    Returns:
        The number of the signal that stopped it, or None.
    """
    command.folder.mkdir(parents=True, exist_ok=True)
    settings: dict[str, object] = {"hydra.sweep.dir": str(command.folder), "hydra.sweep.subdir": "."}
    if command.sweeper == "optuna":
        search = prepare_search(command.search, folder=command.folder)
        if search.trials == 0:
            return None
        settings |= {f"hydra.sweeper.{key}": value for key, value in search.settings.items()}
    given = [f"{key}={quoted(value) if isinstance(value, str) else value}" for key, value in settings.items()]
    sys.argv += [*given, "hydra.mode=MULTIRUN"]
    task = SweepTask(command, time.time(), socket.gethostname(), os.getpid())
    try:
        hydra.main(version_base="1.3", config_path="pkg://conf", config_name=command.verb)(task)()
    except SystemExit as stop:
        if isinstance(stop.code, int) and stop.code > 128:
            return stop.code - 128
        raise
    except KeyboardInterrupt:
        return signal.SIGINT
    return None
