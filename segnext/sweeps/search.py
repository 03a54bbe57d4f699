"""Hyper-parameter search by `hydra/sweeper=optuna`: one study per sweep, on disk, that goes on where it stopped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segnext.errors import ConfigError

__all__ = ["Search", "prepare_search"]


@dataclass(frozen=True)
class Search:
    """A study that is ready to go on: how many trials are to come, and what Hydra's sweeper is to be told."""

    trials: int
    settings: dict[str, str | int | float]


def prepare_search(sweeper: Mapping[str, Any], *, folder: Path) -> Search:
    """Opens or makes the study of the sweep in ``folder`` and queues again what was stopped or has failed.

    ``hydra.sweeper["n_trials"]`` is the number of trials of the whole study, however many commands it takes.

    Args:
        sweeper: ``hydra.sweeper`` as composed; what it leaves open is filled in: an SQLite file in ``folder`` as
            storage, the folder's name as the study's.

    Raises:
        ConfigError: the extra ``hpo`` is missing, or the study cannot be opened.
    """
    try:
        import optuna
        from optuna.trial import TrialState
    except ImportError as error:
        raise ConfigError(
            f"hydra/sweeper=optuna needs the extra hpo ({error}): pip install 'segnext-jittor[hpo]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = sweeper["storage"] or f"sqlite:///{folder / 'study.db'}"
    name = sweeper["study_name"] or folder.name
    try:
        study = optuna.create_study(study_name=name, storage=storage, direction="maximize", load_if_exists=True)
        trials = study.get_trials(deepcopy=False)
        known = [trial.params for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.WAITING)]
        for trial in trials:
            if trial.state == TrialState.RUNNING:  # of a sweep that was stopped
                study.tell(trial.number, state=TrialState.FAIL)
            if trial.state in (TrialState.RUNNING, TrialState.FAIL) and trial.params and trial.params not in known:
                study.enqueue_trial(trial.params)  # the same settings give the same job, which resumes
                known.append(trial.params)
    except Exception as error:  # of the database's driver, of which there are many
        raise ConfigError(f"the study {name} in {storage} cannot be opened: {' '.join(str(error).split())}") from error
    complete = sum(trial.state == TrialState.COMPLETE for trial in trials)
    remaining = max(0, sweeper["n_trials"] - complete)
    settings = {
        "storage": storage,
        "study_name": name,
        "direction": "maximize",
        "n_trials": remaining,
        "max_failure_rate": 1.0,  # the ledger knows about failures; the search goes on
    }
    return Search(remaining, settings)
