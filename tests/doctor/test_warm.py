"""The cache filled ahead; that nothing is compiled after it: test_dockerfile.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from segnext.doctor.warm import warm_cache, warm_commands
from segnext.errors import BackendError


def test_a_warm_up_trains_evaluates_and_predicts_with_the_given_model_and_crop(tmp_path: Path) -> None:
    train, evaluate, predict = warm_commands("base", (64, 96), device="cpu", run=tmp_path / "run")
    assert {"model=base", "dataset.crop=[64,96]", "schedule.eval_interval=2"} <= set(train)
    assert all(f"checkpoint={tmp_path / 'run'}" in command for command in (evaluate, predict))


def test_a_warm_up_that_fails_says_what_the_command_said() -> None:
    with pytest.raises(BackendError, match=r"train of the warm-up ended with 2: .*model"):
        warm_cache("huge", (64, 64), device="cpu")
