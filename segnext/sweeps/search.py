"""``hydra/sweeper=optuna``: a search for the best mIoU, one study per sweep that goes on where it stopped.

Intervals are searched (``schedule.lr=tag(log, interval(1e-5, 1e-3))``), choices and ranges are chosen from, and what
has one value is the same for all trials.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from segnext.errors import ConfigError, SegNeXtError
from segnext.files import FileLock

if TYPE_CHECKING:
    from segnext.sweeps.launcher import SweepLauncher

__all__ = ["Search", "SearchSettings"]

# ruff: noqa: UP045 - OmegaConf reads these annotations at run time and knows Optional, not "| None"


@dataclass
class SearchSettings:
    """``hydra.sweeper`` of a search."""

    _target_: str = "hydra_plugins._segnext.Search"
    n_trials: int = 20  # of the whole study, however many commands it takes
    n_jobs: int = 1  # trials at a time; sweep.slots must have room for them
    seed: Optional[int] = None  # of the sampler (TPE)
    storage: Optional[str] = None  # an URL of Optuna's; null: study.db in the sweep's folder
    study_name: Optional[str] = None  # null: the sweep's name
    params: Optional[dict[str, Any]] = None  # the search space, as on the command line


class Search(Sweeper):
    """Asks Optuna for trials, lets the launcher run them, and tells what they gave."""

    __module__ = "hydra_plugins._segnext"  # by which Hydra finds it

    def __init__(self, **settings: Any) -> None:
        self._settings = SearchSettings(**settings)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config, self._loader = hydra_context, config, hydra_context.config_loader
        self.launcher: SweepLauncher = Plugins.instance().instantiate_launcher(  # type: ignore[assignment]
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Runs the trials that the study lacks, first those that were stopped or have failed.

        Raises:
            ConfigError: the extra ``hpo`` is missing, the study cannot be opened, or another process is at it.
            SegNeXtError: jobs have failed.
        """
        _optuna()  # says if the extra is missing
        if self.launcher.sweep.settings.dry_run:
            raise ConfigError("sweep.dry_run=true: hydra/sweeper=optuna makes up its jobs one by one")
        given = [f"{key}={value}" for key, value in (self._settings.params or {}).items()]
        parser = OverridesParser.create(config_loader=self._loader)
        overrides = {override.get_key_element(): override for override in parser.parse_overrides([*given, *arguments])}
        fixed = [f"{key}={o.get_value_element_as_str()}" for key, o in overrides.items() if not o.is_sweep_override()]
        space = {key: _distribution(o) for key, o in overrides.items() if o.is_sweep_override()}
        self.launcher.compose(fixed, 0)  # what is wrong in all trials shows before there is a study
        lock = FileLock.take(self.launcher.sweep.folder / ".search.lock")
        if lock is None:
            raise ConfigError(f"the search in {self.launcher.sweep.folder} is at work in another process: wait for it")
        try:
            self._search(space, fixed)
        finally:
            lock.release()
        left = self.launcher.summarise()
        if left is not None:
            raise SegNeXtError(left)

    def _search(self, space: dict[str, Any], fixed: list[str]) -> None:
        study, remaining = self._open_study()
        done = len(study.get_trials(deepcopy=False))
        while remaining > 0:
            trials = [study.ask(space) for _ in range(min(self._settings.n_jobs, remaining))]
            remaining -= len(trials)
            jobs = [[*(f"{key}={value}" for key, value in trial.params.items()), *fixed] for trial in trials]
            for trial, result in zip(trials, self.launcher.launch(jobs, initial_job_idx=done), strict=True):
                try:
                    study.tell(trial, result.return_value)
                except (SegNeXtError, TypeError, ValueError):  # it failed, or was never evaluated
                    study.tell(trial, state=_optuna().trial.TrialState.FAIL)
            done += len(trials)

    def _open_study(self) -> tuple[Any, int]:
        """The study, with what was stopped or has failed queued again, and how many trials are to come."""
        optuna = _optuna()
        states = optuna.trial.TrialState
        settings, folder = self._settings, self.launcher.sweep.folder
        storage, name = settings.storage or f"sqlite:///{folder / 'study.db'}", settings.study_name or folder.name
        try:
            study = optuna.create_study(study_name=name, storage=storage, direction="maximize", load_if_exists=True)
            trials = study.get_trials(deepcopy=False)
            known = [trial.params for trial in trials if trial.state in (states.COMPLETE, states.WAITING)]
            for trial in trials:
                if trial.state == states.RUNNING:  # of a sweep that was stopped
                    study.tell(trial.number, state=states.FAIL)
                if trial.state in (states.RUNNING, states.FAIL) and trial.params and trial.params not in known:
                    study.enqueue_trial(trial.params)  # the same settings give the same job, which goes on
                    known.append(trial.params)
        except Exception as error:  # of the database's driver, of which there are many
            words = " ".join(str(error).split())
            raise ConfigError(f"the study {name} in {storage} cannot be opened: {words}") from error
        # A study that goes on must not draw the same trials again.
        seed = None if settings.seed is None else settings.seed + len(trials)
        study.sampler = optuna.samplers.TPESampler(seed=seed)
        complete = sum(trial.state == states.COMPLETE for trial in trials)
        return study, max(0, settings.n_trials - complete)


def _distribution(override: Override) -> Any:
    kinds, value = _optuna().distributions, override.value()
    if not isinstance(value, IntervalSweep):
        return kinds.CategoricalDistribution(list(override.sweep_string_iterator()))
    low, high, log = value.start, value.end, "log" in value.tags
    assert low is not None
    assert high is not None
    if isinstance(low, int) and isinstance(high, int):
        return kinds.IntDistribution(low, high, log=log)
    return kinds.FloatDistribution(low, high, log=log)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ConfigError(
            f"hydra/sweeper=optuna needs the extra hpo ({error}): pip install 'segnext-jittor[hpo]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
