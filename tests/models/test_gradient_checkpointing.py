"""Blocks that are computed again in the backward pass give the same figures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from segnext import backend, create_model

jt = backend.start()


class Pass:
    """Logits, gradients and statistics after one training pass with drop path and dropout."""

    def __init__(self, *, checkpointing: bool, precision: str = "fp32") -> None:
        model = create_model(
            "tiny", num_classes=5, drop_path=0.5, gradient_checkpointing=checkpointing, precision=precision
        )
        model.seed_noise([(3, image) for image in range(2)])
        images = np.random.default_rng(0).standard_normal((2, 3, 64, 64)).astype(np.float32)
        logits = model(jt.array(images))
        parameters = model.parameters_to_train()
        gradients = jt.grad((logits * logits).mean(), list(parameters.values()))
        self.logits = logits.numpy()
        self.gradients: dict[str, Any] = {n: g.numpy() for n, g in zip(parameters, gradients, strict=True)}
        self.tensors: dict[str, Any] = {name: var.numpy() for name, var in model.tensors().items()}


@pytest.fixture(scope="module")
def passes() -> tuple[Pass, Pass]:
    return Pass(checkpointing=False), Pass(checkpointing=True)


def test_logits_are_the_same(passes: tuple[Pass, Pass]) -> None:
    plain, again = passes
    np.testing.assert_allclose(again.logits, plain.logits, rtol=1e-5, atol=1e-6)


def test_gradients_are_the_same_with_all_that_was_dropped(passes: tuple[Pass, Pass]) -> None:
    plain, again = passes
    assert np.abs(plain.gradients["backbone.block1.0.layer_scale_1"]).max() > 0
    for name, gradient in plain.gradients.items():
        largest = np.abs(gradient).max()
        np.testing.assert_allclose(again.gradients[name], gradient, atol=1e-4 * largest + 1e-8, err_msg=name)


def test_running_statistics_are_updated_once(passes: tuple[Pass, Pass]) -> None:
    plain, again = passes
    for name, tensor in plain.tensors.items():
        np.testing.assert_allclose(again.tensors[name], tensor, rtol=1e-5, atol=1e-6, err_msg=name)


def test_narrow_types_are_computed_again_too() -> None:
    plain, again = (
        Pass(checkpointing=False, precision="bf16"),
        Pass(checkpointing=True, precision="bf16"),
    )
    np.testing.assert_array_equal(again.logits, plain.logits)
    name = "backbone.block2.1.attn.proj_1.weight"
    np.testing.assert_allclose(again.gradients[name], plain.gradients[name], rtol=0.02, atol=1e-4)


def test_prediction_is_left_as_it_is() -> None:
    models = [
        create_model("tiny", num_classes=5, gradient_checkpointing=checkpointing) for checkpointing in (False, True)
    ]
    images = jt.array(np.random.default_rng(0).standard_normal((1, 3, 64, 64)).astype(np.float32))
    for model in models:
        model.eval()
    with jt.no_grad():
        plain, again = (model(images).numpy() for model in models)
    np.testing.assert_array_equal(again, plain)
