"""A sweep command, read and checked: where it goes, how its jobs are run, and what a job's process is told."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from segnext.backend.world import current_world
from segnext.errors import ConfigError
from segnext.files import runner_command
from segnext.settings import literal
from segnext.sweeps.job import Job, job_name, sweep_name
from segnext.sweeps.prune import curve_judge
from segnext.sweeps.scheduler import Scheduler
from segnext.sweeps.settings import OnFailure, SweepSettings, parse_slots
from segnext.sweeps.slots import Slot, plan_slots
from segnext.sweeps.table import SweepDisplay

__all__ = ["Sweep", "read_sweep"]

_REFUSED = {
    "run_folder": "run_folder=… is for single runs: a sweep gives every job a folder of its own",
    "resume": "resume=… is for single runs: a sweep resumes by itself",
    "hydra.sweep.dir": "hydra.sweep.dir is not used: say sweep.name=NAME, below output_dir=DIR",
    "hydra.sweep.subdir": "hydra.sweep.subdir is not used: jobs are named after their choices, so that they can go on",
}


@dataclass(frozen=True)
class Sweep:
    """What a command line says; picklable, since a cluster's launcher carries it to other machines.

    Attributes:
        verb: the runner, for example ``train``.
        folder: of the sweep; each job has a folder in it.
        swept: the keys among whose values the sweep goes.
        options: what the command of every job begins with.
    """

    verb: str
    folder: Path
    output_dir: Path
    settings: SweepSettings
    swept: frozenset[str]
    options: tuple[str, ...]

    def job(self, overrides: Sequence[str], settings: dict[str, Any]) -> Job:
        """The job with these overrides; ``settings`` is what its configuration says that the sweep must know."""
        given = [text for text in overrides if not re.match(r"[+~]*(hydra[./@]|sweep\.|output_dir=)", text)]
        name = job_name(given, self.swept)
        if settings["group"] is None:
            given.append(f"tracking.group={literal(self.folder.name)}")
        return Job(name, tuple(given), self.folder / name, settings)

    def judge(self, jobs: Sequence[Job]) -> Callable[[Job], str | None] | None:
        """What says why a running job is not worth going on with.

        Raises:
            ConfigError: the reference of ``sweep.prune`` is of no use for ``jobs``.
        """
        settings = self.settings
        return curve_judge(settings.prune, margin=settings.prune_margin, jobs=jobs, sweep=self.folder)

    def slots(self, jobs: Sequence[Job]) -> list[Slot]:
        """Where jobs can run on this machine."""
        device, ranks = jobs[0].settings["device"], max(job.settings["ranks"] for job in jobs)
        count = parse_slots(self.settings.slots)
        return plan_slots(count, device=device, folder=self.folder, jobs=len(jobs), ranks=ranks)

    def scheduler(self, jobs: Sequence[Job], display: SweepDisplay, *, slots: Sequence[Slot]) -> Scheduler:
        """What runs ``jobs``; raises ConfigError as ``judge`` does."""
        ready = f"from segnext import backend; backend.start({jobs[0].settings['device']!r}, log=backend.default_log())"
        return Scheduler(
            slots=slots,
            command=self.command,
            display=display,
            on_failure=OnFailure.parse(self.settings.on_failure),
            grace=self.settings.grace,
            first=([sys.executable, "-c", ready], self.folder / ".first.log"),
            verdict=self.judge(jobs),
        )

    def command(self, job: Job) -> list[str]:
        """The command of a job's process."""
        places = [f"output_dir={literal(str(self.output_dir))}", f"run_folder={literal(str(job.folder))}"]
        return [*runner_command(self.verb), *self.options, *job.overrides, *places, "hydra.mode=RUN"]


def read_sweep(verb: str, master: DictConfig) -> Sweep:
    """Reads the command line from ``master``, the configuration that all of its jobs share.

    Raises:
        ConfigError: a setting of the sweep is wrong, or one that makes no sense in a sweep is given.
    """
    if current_world().size > 1:
        raise ConfigError("-m starts its jobs itself: leave mpirun out and add ranks=N for jobs of N ranks")
    given = [*master.hydra.overrides.task, *master.hydra.overrides.hydra]
    swept = set(master.hydra.sweeper.get("params") or {})
    for override in OverridesParser.create().parse_overrides(given):
        key = override.key_or_group
        if key in _REFUSED:
            raise ConfigError(_REFUSED[key])
        if override.is_sweep_override():
            if key.startswith("sweep."):
                raise ConfigError(f"{key} says how the sweep is run: give it one value")
            swept.add(key)
    settings = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(SweepSettings), master.sweep))
    assert isinstance(settings, SweepSettings)
    output_dir = Path(master.output_dir).absolute()
    name = settings.name or sweep_name(given, swept)
    return Sweep(
        verb=verb,
        folder=output_dir / "sweeps" / name,
        output_dir=output_dir,
        settings=settings,
        swept=frozenset(swept),
        options=tuple(_options(verb, master)),
    )


def _options(verb: str, master: DictConfig) -> Iterator[str]:
    """What the command line says of where the configuration comes from."""
    if master.hydra.job.config_name != verb:
        yield from ("--config-name", master.hydra.job.config_name)
    for source in master.hydra.runtime.config_sources:
        if source.provider == "command-line":
            yield from ("--config-dir", source.path)
    yield from (text for text in master.hydra.overrides.hydra if text.startswith("hydra.searchpath="))
