"""Hydra's launchers of sweeps: every job in a process of its own, on this machine or as a job of SLURM.

``hydra/launcher=isolated`` runs the jobs here; ``submitit_slurm`` and ``submitit_local`` (extra ``slurm``) hand them to
submitit, whose tasks do the same with one job each. Whatever the sweeper, all jobs of a batch are composed and checked
before the first one starts, those that are done are left out, and what became of each is shown at the end.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import psutil
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from rich.console import Console

from segnext.errors import DataError, SegNeXtError
from segnext.settings import literal
from segnext.sweeps.job import SETTLED, Job, read_record, read_records
from segnext.sweeps.plan import print_plan
from segnext.sweeps.search import Search, SearchSettings
from segnext.sweeps.settings import OnFailure
from segnext.sweeps.slots import Slot
from segnext.sweeps.sweep import Sweep, read_sweep
from segnext.sweeps.table import SweepDisplay, print_summary

__all__ = ["register"]

_PLACE = "hydra_plugins._segnext"  # by which Hydra finds the classes


class SweepStopped(SegNeXtError):
    """A signal has stopped the sweep; its jobs have saved."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(text)
        self.exit_code = 128 + number


class SweepLauncher(Launcher):
    """What the launchers have in common. ``verb`` and ``check``: see ``register``."""

    __module__ = _PLACE
    verb: ClassVar[str]
    check: ClassVar[Callable[[DictConfig], dict[str, Any]]]
    runs_here: ClassVar[bool] = True

    def __init__(self, **queue: Any) -> None:
        self._queue = queue
        self._console = Console(highlight=False)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self._context, self._config = hydra_context, config
        self.sweep = read_sweep(self.verb, config)
        self.searching = config.hydra.runtime.choices["hydra/sweeper"] == "optuna"
        self._announced = False
        # Hydra's sweeper notes the sweep in a file before any job is checked, and a dry run is to leave nothing.
        self._notes = tempfile.TemporaryDirectory(prefix="segnext-sweep-")
        with read_write(config.hydra):
            config.hydra.sweep.dir = self._notes.name

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Runs the jobs with these overrides; a failed one is returned as such and the others run all the same.

        Raises:
            ConfigError, DataError: a job is wrong, or its data are; none has been started.
            SweepStopped: a signal has stopped the sweep.
        """
        settings = self.sweep.settings
        jobs = [self.compose(overrides, initial_job_idx + i) for i, overrides in enumerate(job_overrides)]
        distinct = list({job.name: job for job in jobs}.values())
        lacking = list(dict.fromkeys(text for job in distinct if (text := job.settings.get("lacks"))))
        if settings.dry_run:
            print_plan(distinct, output_dir=self.sweep.output_dir, console=self._console)
            for text in lacking:
                self._console.print(f"lacking: {text}", soft_wrap=True, markup=False)
            return [_returned(overrides) for overrides in job_overrides]
        if lacking and self.runs_here:
            raise DataError("\n".join(lacking))
        self.sweep.judge(distinct)  # says if the reference of sweep.prune is of no use
        if not self._announced:
            self._console.print(f"Sweep: {self.sweep.folder}", soft_wrap=True, markup=False)
            self._announced = True
        overrides_of = {job.name: tuple(given) for job, given in zip(jobs, job_overrides, strict=True)}
        to_do = [job for job in distinct if read_record(job).state not in SETTLED]
        received = self._run(distinct, to_do, overrides_of) if to_do else None
        left = self.summarise(None if self.searching else distinct, quiet=self.searching and received is None)
        if not to_do and not self.searching:
            self._console.print(f"Nothing to do: all {len(distinct)} jobs are done.")
        if received is not None:
            raise SweepStopped(received, left or "stopped after the last job")
        records = [read_record(job) for job in jobs]
        return [
            _returned(overrides, record.best_mIoU, None if record.state in SETTLED else left)
            for overrides, record in zip(job_overrides, records, strict=True)
        ]

    def summarise(self, jobs: Sequence[Job] | None = None, *, quiet: bool = False) -> str | None:
        """Prints what has become of ``jobs``, or of all in the folder; returns what to say of unfinished ones."""
        records = read_records(self.sweep.folder) if jobs is None else [read_record(job) for job in jobs]
        if not quiet:
            print_summary(records, console=self._console)
        unfinished = sum(record.state not in SETTLED for record in records)
        if not unfinished:
            return None
        return f"{unfinished} of {len(records)} jobs are not finished: the same command goes on with them."

    def compose(self, overrides: Sequence[str], number: int) -> Job:
        """The job with these overrides; ConfigError, or an error of Hydra's, if they are wrong."""
        composed = self._context.config_loader.load_sweep_config(self._config, list(overrides))
        with read_write(composed.hydra), open_dict(composed.hydra):
            composed.hydra.job.id = composed.hydra.job.num = number
        HydraConfig.instance().set_config(composed)
        with read_write(composed), open_dict(composed):
            del composed["hydra"]
        return self.sweep.job(overrides, type(self).check(composed))

    @abstractmethod
    def _run(self, jobs: Sequence[Job], to_do: Sequence[Job], overrides: Mapping[str, Sequence[str]]) -> int | None:
        """Runs ``jobs``, of which ``to_do`` are not settled; returns the signal that stopped the sweep, if one did."""


class IsolatedLauncher(SweepLauncher):
    """``hydra/launcher=isolated``: a process per job on this machine."""

    __module__ = _PLACE

    def _run(self, jobs: Sequence[Job], to_do: Sequence[Job], overrides: Mapping[str, Sequence[str]]) -> int | None:
        with SweepDisplay(jobs, console=self._console) as display:
            return self.sweep.scheduler(jobs, display, slots=self.sweep.slots(jobs)).run(jobs)


class ClusterLauncher(SweepLauncher):
    """``hydra/launcher=submitit_slurm`` or ``submitit_local``: a task of submitit per job."""

    __module__ = _PLACE
    runs_here = False  # the data may lie where the jobs run alone

    def _run(self, jobs: Sequence[Job], to_do: Sequence[Job], overrides: Mapping[str, Sequence[str]]) -> int | None:
        from hydra_plugins.hydra_submitit_launcher import submitit_launcher  # an extra

        sweep = self.sweep
        queue = dict(self._queue)
        on_slurm = queue.pop("executor") == "slurm"
        queue["submitit_folder"] = queue["submitit_folder"] or str(sweep.folder / ".submitit" / "%j")
        launcher = (submitit_launcher.SlurmLauncher if on_slurm else submitit_launcher.LocalLauncher)(**queue)
        task = ClusterTask(sweep, {job.name: job for job in to_do}, on_slurm)
        launcher.setup(hydra_context=self._context, task_function=task, config=self._config)
        place = f"hydra.sweep.dir={literal(str(sweep.folder))}"
        launcher.launch([[*overrides[job.name], place, f"hydra.sweep.subdir={job.name}"] for job in to_do], 0)
        return None


@dataclass(frozen=True)
class ClusterTask:
    """The function that submitit calls for each job, in another process and maybe on another machine."""

    sweep: Sweep
    jobs: dict[str, Job]
    on_slurm: bool
    began: float = field(default_factory=time.time)
    owner: int = field(default_factory=os.getpid)  # process of the sweep

    def __call__(self, composed: DictConfig) -> None:
        if not self.on_slurm:
            _end_with(self.owner)
        job, sweep = self.jobs[HydraConfig.get().sweep.subdir], self.sweep
        if OnFailure.parse(sweep.settings.on_failure).stop and any(map(self._has_failed, self.jobs.values())):
            return
        given = (Slot("SLURM", (sweep.folder / ".slots" / f"slurm-{os.environ.get('SLURM_JOB_ID')}",)),)
        slots = given if self.on_slurm else sweep.slots(list(self.jobs.values()))
        with SweepDisplay([job], console=Console(force_terminal=False, highlight=False)) as display:
            received = sweep.scheduler([job], display, slots=slots).run([job])
        if received is not None:
            raise SystemExit(128 + received)

    def _has_failed(self, job: Job) -> bool:
        status = job.folder / "status.json"
        return read_record(job).state == "failed" and status.stat().st_mtime > self.began


def _end_with(owner: int) -> None:
    """Sees to it that this process ends with the sweep's own on the same machine, and its job with it."""
    if owner == os.getpid():
        return

    def watch() -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(owner)
            while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.2)
        os._exit(1)  # the supervisor of the job in hand notices and stops it

    threading.Thread(target=watch, name="sweep-owner", daemon=True).start()


class _FailedJob(JobReturn):
    """Hydra's own kind would print the job's overrides before it raises."""

    @property
    def return_value(self) -> Any:
        raise self._return_value

    @return_value.setter
    def return_value(self, value: Any) -> None:
        self._return_value = value


def _returned(overrides: Sequence[str], miou: float | None = None, failure: str | None = None) -> JobReturn:
    """What Hydra's sweepers are given of a job: its best mIoU, the objective of a search, or an error."""
    result = JobReturn() if failure is None else _FailedJob()
    result.overrides = list(overrides)
    result.status = JobStatus.COMPLETED if failure is None else JobStatus.FAILED
    result.return_value = miou if failure is None else SegNeXtError(failure)
    return result


def register(verb: str, check: Callable[[DictConfig], dict[str, Any]]) -> None:
    """Makes the launchers known to Hydra, and the search; to be called before ``hydra.main``.

    Args:
        verb: the runner whose `-m` commands are launched.
        check: checks a composed configuration (without ``hydra``) and tells what the sweep must know of the job:
            model, nmf_rank, dataset, num_classes, flops_size, crop, iterations, batch_size, device, ranks, the
            W&B ``group``, and what its data lack here, or None (``lacks``). Raises ConfigError where it is wrong.
    """
    SweepLauncher.verb, SweepLauncher.check = verb, staticmethod(check)
    store = ConfigStore.instance()
    for plugin in (IsolatedLauncher, ClusterLauncher, Search):
        Plugins.instance().register(plugin)
    store.store(group="hydra/sweeper", name="optuna", node=SearchSettings)
    try:
        from hydra_plugins.hydra_submitit_launcher.config import LocalQueueConf, SlurmQueueConf  # an extra
    except ImportError:
        return
    for executor, queue in (("slurm", SlurmQueueConf), ("local", LocalQueueConf)):
        node = OmegaConf.to_container(OmegaConf.structured(queue))
        assert isinstance(node, dict)
        node |= {"_target_": f"{_PLACE}.ClusterLauncher", "executor": executor, "submitit_folder": None}
        store.store(group="hydra/launcher", name=f"submitit_{executor}", node=node)
