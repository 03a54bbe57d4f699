"""SegNeXt on Jittor: the library behind the runners.

Importing this package is quick and does not import Jittor; the names below are loaded at first use.
"""

from __future__ import annotations

import importlib
from typing import Any

from segnext.errors import (
    BackendError,
    ConfigError,
    DataError,
    SegNeXtError,
    TrainingError,
    WeightsError,
)

__version__ = "0.1.0"

_LAZY = {
    "Segmenter": "segnext.evaluation.predictor",
    "complexity": "segnext.models.complexity",
    "create_model": "segnext.models.segnext",
    "load_weights": "segnext.weights.loading",
    "save_weights": "segnext.weights.saving",
}

__all__ = [
    "BackendError",
    "ConfigError",
    "DataError",
    "SegNeXtError",
    "Segmenter",
    "TrainingError",
    "WeightsError",
    "complexity",
    "create_model",
    "load_weights",
    "save_weights",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
