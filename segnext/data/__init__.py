"""Class tables, datasets, augmentation and the loaders. Free of Jittor: worker processes import it.

The names below are loaded at first use, so that a class table can be had without loading OpenCV's readers.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "catalog": ("DATASETS", "create_dataset"),
    "classes": ("ADE", "CAMVID", "CITYSCAPES", "SHAPES", "ClassTable", "load_class_table"),
    "datasets": ("Dataset", "Sample"),
    "dataset_report": ("DatasetReport",),
    "inspection": ("check_training_data", "inspect_dataset"),
    "loader": ("Batch", "EvaluationLoader", "TrainingLoader"),
    "augmentation": ("TrainingTransform", "normalize"),
}
_LAZY = {name: f"segnext.data.{module}" for module, names in _HOMES.items() for name in names}

__all__ = sorted(_LAZY)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return __all__
