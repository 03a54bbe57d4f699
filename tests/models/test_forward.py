"""The same weights, bases and images give the same logits as the official implementation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from segnext import backend
from segnext.models.folding import folded
from segnext.models.segnext import SegNeXt, create_model
from segnext.models.variants import VARIANTS
from tests.kernels.plain import use_plain_operators
from tests.models.drawn import drawn_bases, drawn_images, golden, prepare
from tests.models.numpy_segnext import NumpySegNeXt

jt = backend.start()

TOLERANCE = 1e-4  # of the largest logit, float32


def _logits(model: Any, images: Any) -> Any:
    model.eval()
    with jt.no_grad():
        return model(jt.array(images)).numpy()


def _error(found: Any, expected: Any) -> float:
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("name", VARIANTS)
def test_every_size_equals_the_numpy_reference_at_odd_input_sizes(name: str) -> None:
    variant = VARIANTS[name]
    model = create_model(name, num_classes=19)
    reference = NumpySegNeXt(prepare(model))
    for shape in [(2, 3, 32, 32), (1, 3, 33, 47)]:
        images = drawn_images(shape, seed=3)
        bases = drawn_bases(shape[0], variant.decoder_channels, variant.nmf_rank)
        assert _error(_logits(model, images), reference.logits(images, bases)) < TOLERANCE


@pytest.mark.parametrize("size", [(64, 40), (32, 127), (97, 65)])
def test_any_input_size_gives_logits_at_an_eighth_rounded_up(size: tuple[int, int]) -> None:
    model = create_model("tiny", num_classes=3)
    reference = NumpySegNeXt(prepare(model))
    images = drawn_images((1, 3, *size), seed=4)
    logits = _logits(model, images)
    assert logits.shape == (1, 3, -(-size[0] // 8), -(-size[1] // 8))
    assert _error(logits, reference.logits(images, drawn_bases(1, 256, 16))) < TOLERANCE


@pytest.mark.shared_data
@pytest.mark.parametrize("change", [lambda model: model, folded], ids=["as it is", "folded"])
@pytest.mark.parametrize("name", ["tiny_150_128x128", "small_19_96x160"])
def test_logits_equal_the_official_implementation(name: str, change: Callable[[SegNeXt], SegNeXt]) -> None:
    arrays, meta = golden(name)
    model = create_model(meta["size"], num_classes=meta["classes"])
    prepare(model)
    images = drawn_images(tuple(meta["shape"]), meta["seed"])
    model.eval()
    assert _error(_logits(change(model), images), arrays["logits"]) < TOLERANCE


@pytest.mark.slow
def test_plain_operators_give_the_same_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    model = create_model("tiny", num_classes=3)
    prepare(model)
    images = drawn_images((2, 3, 33, 47), seed=5)
    expected = _logits(model, images)
    use_plain_operators(monkeypatch)
    assert _error(_logits(model, images), expected) < TOLERANCE
