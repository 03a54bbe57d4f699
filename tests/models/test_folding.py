"""Batch norms and layer scales folded into convolutions give the logits of the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segnext.backend import jt
from segnext.data.classes import SHAPES
from segnext.data.settings import InferenceSettings
from segnext.data.shapes import ShapesDataset
from segnext.evaluation.evaluator import evaluate
from segnext.evaluation.extremes import write_extremes
from segnext.models.folding import folded
from segnext.models.layers import BatchNorm
from segnext.models.segnext import SegNeXt, create_model


@pytest.fixture
def trained() -> SegNeXt:
    """A tiny model in evaluation mode whose norms and layer scales are no identities."""
    model = create_model("tiny", num_classes=5)
    rng = np.random.default_rng(0)
    for name, var in model.tensors().items():
        if name.endswith("running_var") or ("norm" in name and name.endswith("weight")) or "layer_scale" in name:
            var.assign(rng.uniform(0.3, 1.5, tuple(var.shape)).astype(np.float32))
        elif name.endswith(("running_mean", "bias")):
            var.assign(rng.normal(0, 0.3, tuple(var.shape)).astype(np.float32))
    model.eval()
    return model


def _logits(model: SegNeXt) -> Any:
    images = np.random.default_rng(1).standard_normal((2, 3, 37, 61), dtype=np.float32)
    model.seed_noise([1, 2])
    with jt.no_grad():
        return model(jt.array(images)).numpy()


def test_a_folded_model_gives_the_same_logits_within_rounding(trained: SegNeXt) -> None:
    expected = _logits(trained)
    np.testing.assert_allclose(_logits(folded(trained)), expected, rtol=0, atol=2e-5 * abs(expected).max())


def test_folding_leaves_the_model_and_its_checkpoint_as_they_are(trained: SegNeXt) -> None:
    before = {name: var.numpy() for name, var in trained.tensors().items()}
    expected = _logits(trained)
    folded(trained)
    np.testing.assert_array_equal(_logits(trained), expected)
    assert list(trained.tensors()) == list(before)
    for name, var in trained.tensors().items():
        np.testing.assert_array_equal(var.numpy(), before[name])


def test_folding_freezes_no_parameter() -> None:
    model = create_model("tiny", num_classes=5)
    folded(model)
    assert not [name for name, var in model.parameters_to_train().items() if var.is_stop_grad()]


def test_a_folded_model_has_no_batch_norms_and_no_layer_scales(trained: SegNeXt) -> None:
    copy = folded(trained)
    assert not any(isinstance(module, BatchNorm) for module in copy.modules())
    assert not any("layer_scale" in name for name in copy.tensors())


def test_a_model_with_narrow_convolutions_stays_as_it_is() -> None:
    model = create_model("tiny", num_classes=5, precision="bf16")
    assert folded(model) is model


def test_an_evaluation_leaves_what_is_trained_as_it_was(tmp_path: Path) -> None:
    model = create_model("tiny", num_classes=len(SHAPES))
    model.train()
    trained = [name for name, var in model.named_parameters() if not var.is_stop_grad()]
    dataset = ShapesDataset("val", 1, (32, 32))
    result = evaluate(model, dataset)
    write_extremes(tmp_path, model, dataset, result, settings=InferenceSettings(), count=1, seed=0)
    assert [name for name, var in model.named_parameters() if not var.is_stop_grad()] == trained
