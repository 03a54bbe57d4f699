"""The typed schema of everything in conf/, and the one place where a Hydra config becomes plain objects.

The rest of the library never sees a DictConfig.
"""

from __future__ import annotations

from segnext.app.groups import (
    CountFormat,
    DatasetConfig,
    EvaluationConfig,
    ModelConfig,
    PaperFigures,
    ScheduleConfig,
    SweepConfig,
    TestMode,
    TrackingConfig,
    WandbMode,
)
from segnext.app.resolution import register, resolve, to_dict, to_yaml, unknown_key
from segnext.app.schema import (
    BenchmarkConfig,
    CommonConfig,
    ConvertConfig,
    DoctorConfig,
    EvaluateConfig,
    PredictConfig,
    PrepareConfig,
    ProfileConfig,
    ReportConfig,
    SharedConfig,
    TrainConfig,
)

__all__ = [
    "BenchmarkConfig",
    "CommonConfig",
    "ConvertConfig",
    "CountFormat",
    "DatasetConfig",
    "DoctorConfig",
    "EvaluateConfig",
    "EvaluationConfig",
    "ModelConfig",
    "PaperFigures",
    "PredictConfig",
    "PrepareConfig",
    "ProfileConfig",
    "ReportConfig",
    "ScheduleConfig",
    "SharedConfig",
    "SweepConfig",
    "TestMode",
    "TrackingConfig",
    "TrainConfig",
    "WandbMode",
    "register",
    "resolve",
    "to_dict",
    "to_yaml",
    "unknown_key",
]
