"""Training in narrow types beside float32. Here on the CPU, whose narrow types are those of a GPU, only slower."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from segnext import backend, create_model
from segnext.data.loader import Batch
from segnext.errors import ConfigError
from segnext.training.loop import train
from segnext.training.loss import LossScale
from segnext.training.optimizer import AdamW, parameter_groups
from segnext.training.schedule import ScheduleSettings

jt = backend.start()
CLASSES, STEPS = 3, 24
NARROW = ("bf16", "fp16")


def batches() -> list[Batch]:
    """The same four images again and again: whether the blocks of 8×8 are brighter than the mean."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((4, 3, 64, 64)).astype(np.float32)
    bright = images[:, 0].reshape(4, 8, 8, 8, 8).mean((2, 4)) > 0
    labels = bright.astype(np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    return [Batch(images, labels, np.zeros(4, int), np.arange(4), i) for i in range(STEPS)]


SCHEDULE = ScheduleSettings(
    iterations=STEPS, batch_size=1, lr=1e-3, power=0, warmup_iterations=0, head_lr_factor=1.0, log_interval=1
)


class Run:
    """A short training of tiny."""

    def __init__(self, precision: str) -> None:
        self.model = create_model("tiny", num_classes=CLASSES, drop_path=0, dropout=0, precision=precision)
        parameters = self.model.parameters_to_train()
        self.optimizer = AdamW(parameters, parameter_groups(parameters, SCHEDULE))
        self.logged: list[dict[str, float]] = []
        train(
            self.model,
            self.optimizer,
            batches(),
            schedule=SCHEDULE,
            seed=0,
            log=lambda done, figures: self.logged.append(dict(figures)),
            evaluate=lambda done, check: None,
            save=lambda done: None,
            loss_scale=LossScale() if precision == "fp16" else None,
        )

    def losses(self) -> list[float]:
        return [figures["train/loss"] for figures in self.logged]


@pytest.fixture(scope="module")
def runs() -> dict[str, Run]:
    return {precision: Run(precision) for precision in ("fp32", *NARROW)}


@pytest.mark.parametrize("precision", NARROW)
def test_the_losses_of_a_training_stay_beside_those_of_float32(runs: dict[str, Run], precision: str) -> None:
    expected = runs["fp32"].losses()
    assert expected[-1] < 0.5 * expected[0]
    np.testing.assert_allclose(runs[precision].losses(), expected, atol=5e-3)


@pytest.mark.parametrize("precision", NARROW)
def test_weights_statistics_and_moments_stay_float32(runs: dict[str, Run], precision: str) -> None:
    run = runs[precision]
    assert {str(var.dtype) for var in run.model.tensors().values()} == {"float32"}
    assert {array.dtype for array in run.optimizer.state().values()} == {np.dtype(np.float32)}
    assert run.model.tensors().keys() == runs["fp32"].model.tensors().keys()


def test_the_loss_scale_is_logged_for_float16_alone(runs: dict[str, Run]) -> None:
    assert [figures["train/loss_scale"] for figures in runs["fp16"].logged] == [2.0**16] * STEPS
    assert "train/loss_scale" not in runs["bf16"].logged[0]


def passed(precision: str) -> tuple[Any, dict[str, Any]]:
    """Logits and gradients of one pass in evaluation mode's numerics but with gradients."""
    model = create_model("tiny", num_classes=CLASSES, drop_path=0, dropout=0, precision=precision)
    model.seed_noise([1])
    x = jt.array(np.random.default_rng(1).standard_normal((1, 3, 64, 96)).astype(np.float32))
    logits = model(x)
    parameters = model.parameters_to_train()
    scale = 1024.0 if precision == "fp16" else 1.0
    gradients = jt.grad((logits * logits).mean() * scale, list(parameters.values()))
    return logits.numpy(), {n: g.numpy() / scale for n, g in zip(parameters, gradients, strict=True)}


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 0.05), ("fp16", 0.01)])
def test_logits_and_gradients_are_those_of_float32_up_to_rounding(precision: str, tolerance: float) -> None:
    logits, gradients = passed("fp32")
    narrow_logits, narrow = passed(precision)
    assert narrow_logits.dtype == np.float32
    assert 0 < np.abs(narrow_logits - logits).max() < tolerance * np.abs(logits).max()
    square = sum(float((gradient**2).sum()) for gradient in gradients.values())
    distance = sum(float(((narrow[name] - gradients[name]) ** 2).sum()) for name in gradients)
    assert 0 < distance**0.5 < 2 * tolerance * square**0.5


def test_tf32_is_float32_on_a_cpu() -> None:
    np.testing.assert_array_equal(passed("tf32")[0], passed("fp32")[0])


def test_an_overflow_leaves_the_weights_as_they_are_and_halves_the_loss_scale() -> None:
    model = create_model("tiny", num_classes=CLASSES, precision="fp16")
    parameters = model.parameters_to_train()
    optimizer = AdamW(parameters, parameter_groups(parameters))
    before = {name: var.numpy() for name, var in parameters.items()}
    scale = LossScale(2.0**60)
    train(
        model,
        optimizer,
        batches()[:1],
        schedule=SCHEDULE,
        seed=0,
        log=lambda done, figures: None,
        evaluate=lambda done, check: None,
        save=lambda done: None,
        loss_scale=scale,
    )
    assert (scale.value, optimizer.steps) == (2.0**59, 0)
    for name, var in parameters.items():
        np.testing.assert_array_equal(var.numpy(), before[name])


def test_an_unknown_precision_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="choose one of fp32, tf32, bf16, fp16"):
        create_model("tiny", num_classes=2, precision="int8")
