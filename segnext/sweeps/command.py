"""A sweep command, read and checked, and the jobs that it stands for."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from hydra import version
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from segnext import app as schemas
from segnext.app import SweepConfig, TrainConfig
from segnext.errors import ConfigError
from segnext.sweeps.job import Job, job_name, sweep_name
from segnext.sweeps.ledger import Ledger
from segnext.sweeps.policy import OnFailure, parse_slots
from segnext.sweeps.prune import curve_judge
from segnext.sweeps.scheduler import Display, Scheduler
from segnext.sweeps.slots import Slot, plan_slots

__all__ = ["SweepCommand", "composed_without_choices", "config_loader", "quoted", "read_command"]

_SINGLE_RUNS = {"run_folder": "a sweep gives every job a folder of its own", "resume": "a sweep resumes by itself"}


@dataclass(frozen=True)
class SweepCommand:
    """What a command line says; picklable, since launchers carry it to other processes.

    Attributes:
        verb: the runner, for example ``train``.
        overrides: of the command line.
        swept: the keys among whose values the sweep goes.
        launcher, sweeper: Hydra's, by name.
        parallel: jobs at a time where neither ``sweep.slots`` nor the number of GPUs decides.
        options: what the command of every job begins with.
        search: ``hydra.sweeper``, for a sweeper that is not Hydra's basic one.
    """

    verb: str
    folder: Path
    output_dir: Path
    settings: SweepConfig
    overrides: tuple[str, ...]
    swept: frozenset[str]
    launcher: str
    sweeper: str
    parallel: int
    options: tuple[str, ...]
    search: dict[str, Any]

    def compose(self, loader: ConfigLoader) -> list[Job]:
        """All jobs of Hydra's basic sweeper, each composed and checked."""
        master = loader.load_configuration(self.verb, list(self.overrides), run_mode=RunMode.MULTIRUN)
        given = [f"{key}={value}" for key, value in (master.hydra.sweeper.params or {}).items()]
        parsed = OverridesParser.create(config_loader=loader).parse_overrides([*given, *master.hydra.overrides.task])
        jobs = []
        for overrides in BasicSweeper.split_arguments(parsed, None)[0]:
            config = _resolved(loader.load_sweep_config(master, overrides))
            jobs.append(self.job(config, overrides))
        self._judge(jobs)  # says if the reference of sweep.prune is of no use
        return list({job.name: job for job in jobs}.values())

    def check_what_is_fixed(self, loader: ConfigLoader) -> None:
        """Composes and checks what all jobs have in common, where a sweeper chooses the rest as it goes."""
        parsed = OverridesParser.create(config_loader=loader).parse_overrides(list(self.overrides))
        fixed = [str(override.input_line) for override in parsed if not override.is_sweep_override()]
        _resolved(loader.load_configuration(self.verb, [*fixed, "hydra.mode=RUN"], run_mode=RunMode.RUN))

    def name(self, overrides: Sequence[str]) -> str:
        """The name of the job with these overrides."""
        return job_name(_passed_on(overrides), self.swept)

    def job(self, config: TrainConfig, overrides: Sequence[str]) -> Job:
        from runners.profile import num_classes  # a runner, like the one that is running

        name, given = self.name(overrides), _passed_on(overrides)
        if config.tracking.group is None:
            given.append(f"tracking.group={quoted(self.folder.name)}")
        settings: dict[str, Any] = {
            "model": config.model.name,
            "nmf_rank": config.model.ham.rank,
            "dataset": config.dataset.name,
            "profile_size": tuple(config.dataset.profile_size),
            "crop": tuple(config.dataset.crop),
            "iterations": config.schedule.iterations,
            "batch_size": config.schedule.batch_size,
            "device": config.device.value,
            "ranks": config.ranks or 1,
        }
        if self.settings.dry_run:
            settings["num_classes"] = num_classes(config.dataset)
        return Job(name, tuple(given), self.folder / name, settings)

    def scheduler(self, jobs: Sequence[Job], display: Display) -> Scheduler:
        device = jobs[0].settings["device"]
        ready = f"from segnext import backend; backend.start({device!r})"
        return Scheduler(
            Ledger(self.folder),
            slots=self._slots(device, len(jobs), ranks=max(job.settings["ranks"] for job in jobs)),
            command=self._process,
            display=display,
            on_failure=OnFailure.parse(self.settings.on_failure),
            grace=self.settings.grace,
            first=[sys.executable, "-c", ready],
            verdict=self._judge(jobs),
        )

    def _judge(self, jobs: Sequence[Job]) -> Callable[[Job], str | None] | None:
        settings = self.settings
        return curve_judge(settings.prune, margin=settings.prune_margin, jobs=jobs, ledger=Ledger(self.folder))

    def _slots(self, device: str, jobs: int, *, ranks: int) -> list[Slot]:
        if self.launcher == "submitit_slurm":  # SLURM has given the job its place
            return [Slot("SLURM", (self.folder / "ledger" / f"slurm-{os.environ.get('SLURM_JOB_ID')}.lock",))]
        count, limit = parse_slots(self.settings.slots), jobs if self.launcher == "basic" else None
        return plan_slots(count, device=device, folder=self.folder, cpu_default=self.parallel, jobs=limit, ranks=ranks)

    def _process(self, job: Job, resume: bool) -> list[str]:
        """The command of a job's process."""
        runner = [sys.executable, "-m", f"runners.{self.verb}", *self.options]
        place = f"{'resume' if resume else 'run_folder'}={quoted(str(job.folder))}"
        return [*runner, *job.overrides, f"output_dir={quoted(str(self.output_dir))}", place, "hydra.mode=RUN"]


def read_command(master: DictConfig, verb: str, arguments: Namespace) -> SweepCommand:
    """Reads a command line, ``master`` being what ``composed_without_choices`` makes of it.

    Raises:
        ConfigError: a setting of the sweep is wrong, or one that makes no sense in a sweep is given.
    """
    settings = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(SweepConfig), master.sweep))
    assert isinstance(settings, SweepConfig)
    settings.check()
    swept = set(master.hydra.sweeper.get("params") or {})
    for override in OverridesParser.create().parse_overrides(list(master.hydra.overrides.task)):
        key = override.key_or_group
        if key in _SINGLE_RUNS:
            raise ConfigError(f"{key}=… is for single runs: {_SINGLE_RUNS[key]}")
        if override.is_sweep_override():
            if key.startswith("sweep."):
                raise ConfigError(f"{key} says how the sweep is run: give it one value")
            swept.add(key)
    output_dir = Path(master.output_dir).absolute()
    choices, parallel = master.hydra.runtime.choices, int(master.hydra.launcher.get("n_jobs", 1))
    return SweepCommand(
        verb=verb,
        folder=output_dir / "sweeps" / (settings.name or sweep_name(arguments.overrides, swept)),
        output_dir=output_dir,
        settings=settings,
        overrides=tuple(arguments.overrides),
        swept=frozenset(swept),
        launcher=choices["hydra/launcher"],
        sweeper=choices["hydra/sweeper"],
        parallel=parallel if parallel > 0 else psutil.cpu_count() or 1,
        options=("--config-dir", os.path.abspath(arguments.config_dir)) if arguments.config_dir else (),
        search={} if choices["hydra/sweeper"] == "basic" else _search_settings(master.hydra.sweeper),
    )


@contextlib.contextmanager
def config_loader(name: str, arguments: Namespace) -> Iterator[ConfigLoader]:
    """Hydra's loader for conf/ and what the command line adds to it."""
    version.setbase("1.3")
    search_path = create_config_search_path("pkg://conf")
    if arguments.config_dir:
        place = f"file://{os.path.abspath(arguments.config_dir)}"
        search_path.prepend(provider="command-line", path=place, anchor=SearchPathQuery(provider="schema"))
    try:
        yield Hydra.create_main_hydra2(task_name=name, config_search_path=search_path).config_loader
    finally:
        GlobalHydra.instance().clear()


def composed_without_choices(
    loader: ConfigLoader, name: str, arguments: Namespace, *, check: bool = True
) -> DictConfig:
    """The configuration that all jobs share, those of Hydra's settings included that a `+sweep=…` makes."""
    return loader.load_configuration(
        name, list(arguments.overrides), run_mode=RunMode.MULTIRUN, validate_sweep_overrides=check
    )


def quoted(text: str) -> str:
    """``text`` as Hydra's command line reads it back, whatever characters it has."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _resolved(composed: DictConfig) -> TrainConfig:
    HydraConfig.instance().set_config(composed)
    with open_dict(composed):
        del composed["hydra"]
    return schemas.resolve(composed, TrainConfig)


def _search_settings(sweeper: DictConfig) -> dict[str, Any]:
    return {key: sweeper.get(key) for key in ("storage", "study_name", "n_trials")}


def _passed_on(overrides: Sequence[str]) -> list[str]:
    """Those of a job's overrides that its process is given as they are."""
    return [text for text in overrides if not re.match(r"[+~]*(hydra[./@]|sweep\.|output_dir=)", text)]
