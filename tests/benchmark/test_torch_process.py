from __future__ import annotations

import sys

import pytest

from segnext.benchmark.torch_process import TorchTwin, torch_interpreter
from segnext.errors import BackendError, ConfigError
from segnext.models.tensor_shapes import is_running_statistic, tensor_shapes

WORKLOAD = {"model": "tiny", "num_classes": 3, "batch": 2, "crop": [64, 64], "device": "cpu"}


def test_a_missing_interpreter_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGNEXT_TORCH_PYTHON", "/nowhere/python")
    with pytest.raises(ConfigError, match="/nowhere/python"):
        torch_interpreter()


def test_an_interpreter_without_pytorch_ends_with_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGNEXT_TORCH_PYTHON", sys.executable)
    monkeypatch.setenv("PYTHONNOUSERSITE", "1")
    monkeypatch.setattr("segnext.benchmark.torch_process.package_environment", dict)  # the child finds no segnext
    with TorchTwin() as twin, pytest.raises(BackendError, match="ended with code 1"):
        twin.prepare(what="inference", setting="eager", **WORKLOAD)


@pytest.mark.torch
def test_the_twin_times_training_and_inference() -> None:
    try:
        torch_interpreter()
    except ConfigError as error:
        pytest.skip(str(error))
    names = [name for name in tensor_shapes("tiny", num_classes=3) if not is_running_statistic(name)]
    groups = {"groups": [(6e-5, 0.01, names)]}
    for what, setting, more in (("train", "eager", groups), ("inference", "channels_last", {})):
        with TorchTwin() as twin:
            versions = twin.prepare(what=what, setting=setting, **more, **WORKLOAD)
            assert "torch" in versions
            assert twin.run() > 0
            assert twin.peak_bytes > 100 << 20


@pytest.mark.torch
def test_an_error_inside_pytorch_is_told() -> None:
    try:
        torch_interpreter()
    except ConfigError as error:
        pytest.skip(str(error))
    with TorchTwin() as twin, pytest.raises(BackendError, match="unknown model"):
        twin.prepare(what="inference", setting="eager", **(WORKLOAD | {"model": "huge"}))
