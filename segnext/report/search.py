"""What a search has found: the settings that were varied, and how much each of them matters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segnext.report.collect import Run, setting_text

__all__ = ["Setting", "importance", "varied_settings"]

_WIDE = 20  # a range whose ends differ by more than this factor was searched by orders of magnitude
_FEWEST = 4  # runs from which importance can be told


@dataclass(frozen=True)
class Setting:
    """A setting that differs between runs: its dotted ``key`` and the value of each run, None where it has none."""

    key: str
    values: tuple[Any, ...]

    @property
    def numbers(self) -> bool:
        return all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in self.values)

    @property
    def logarithmic(self) -> bool:
        """Whether the values are spread over orders of magnitude."""
        return self.numbers and min(self.values) > 0 and max(self.values) >= _WIDE * min(self.values)

    @property
    def levels(self) -> list[str]:
        """The values as texts, each once, where they are no numbers."""
        return list(dict.fromkeys(map(setting_text, self.values)))


def varied_settings(runs: Sequence[Run]) -> list[Setting]:
    """What differs between ``runs``, which are of one dataset: the model and the settings."""
    keys = dict.fromkeys(key for run in runs for key in run.varied)
    settings = [Setting(key, tuple(run.varied.get(key) for run in runs)) for key in keys]
    if len({run.model for run in runs}) > 1:
        settings.insert(0, Setting("model", tuple(run.model for run in runs)))
    return settings


def importance(settings: Sequence[Setting], scores: Sequence[float]) -> Mapping[str, float] | None:
    """The share of the scores' variance that each setting explains (fANOVA; sums to 1), most important first.

    ``scores`` of the runs are fractions, nan for none. None where it cannot be told: fewer than four scores, all
    alike, or without the extra ``hpo``.
    """
    known = [row for row, score in enumerate(scores) if not math.isnan(score)]
    chosen = [s for s in settings if len({setting_text(s.values[row]) for row in known}) > 1]
    if len(known) < _FEWEST or not chosen or len({scores[row] for row in known}) == 1:
        return None
    try:
        import optuna
        from optuna.importance import FanovaImportanceEvaluator, get_param_importances
    except ImportError:
        return None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    kinds = optuna.distributions
    spaces = {
        s.key: kinds.FloatDistribution(float(min(s.values)), float(max(s.values)), log=s.logarithmic)
        if s.numbers
        else kinds.CategoricalDistribution(s.levels)
        for s in chosen
    }
    for row in known:
        params = {s.key: float(s.values[row]) if s.numbers else setting_text(s.values[row]) for s in chosen}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=spaces, value=scores[row]))
    try:
        return dict(get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0)))
    except ImportError:  # scikit-learn
        return None
