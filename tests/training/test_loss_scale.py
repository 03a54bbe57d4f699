"""The factor of the loss in float16: what it does and what it leaves out."""

from __future__ import annotations

import math

import pytest

from segnext.errors import TrainingError
from segnext.training.loss import LossScale


def test_an_overflow_leaves_the_step_out_and_halves_the_factor() -> None:
    scale = LossScale(1024.0)
    assert not scale.update(math.inf)
    assert not scale.update(math.nan)
    assert scale.value == 256


def test_the_factor_doubles_after_finite_steps_in_a_row() -> None:
    scale = LossScale(8.0, patience=3)
    steps = [scale.update(norm) for norm in (1.0, 1.0, math.inf, 1.0, 1.0)]
    assert (steps, scale.value) == ([True, True, False, True, True], 4)
    scale.update(1.0)
    assert scale.value == 8


def test_gradients_that_overflow_without_any_factor_end_the_training_with_a_cure() -> None:
    scale = LossScale(1.0)
    with pytest.raises(TrainingError, match="precision=bf16"):
        scale.update(math.inf)


def test_the_state_survives_as_text() -> None:
    scale, other = LossScale(4.0, patience=3), LossScale(patience=3)
    scale.update(1.0)
    scale.update(1.0)
    other.load_state({name: str(value) for name, value in scale.state().items()})
    other.update(1.0)
    assert other.value == 8
