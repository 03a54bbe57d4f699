"""Random numbers are functions of one seed per image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from segnext import backend
from segnext.errors import SegNeXtError
from segnext.models.noise import Noise
from segnext.models.segnext import create_model
from tests.models.drawn import drawn_images

jt = backend.start()


def _uniform(seeds: list[Any] | None, *, batch: int, training: bool = True) -> np.ndarray:
    noise = Noise()
    noise.seed(seeds)
    noise.start(batch, training=training)
    return np.concatenate([noise.uniform(3), noise.uniform(2)], axis=1)


def test_an_image_has_the_same_draws_in_any_batch() -> None:
    np.testing.assert_array_equal(_uniform([7, (1, 2), 9], batch=3)[1], _uniform([(1, 2)], batch=1)[0])


def test_other_seeds_give_other_draws() -> None:
    first, second = _uniform([(0, 1, 2), (0, 1, 3)], batch=2)
    assert not np.array_equal(first, second)


def test_evaluation_without_seeds_is_deterministic_and_equal_for_all_images() -> None:
    noise = _uniform(None, batch=2, training=False)
    np.testing.assert_array_equal(noise[0], noise[1])
    np.testing.assert_array_equal(noise, _uniform(None, batch=2, training=False))


def test_training_without_seeds_follows_the_global_generator() -> None:
    np.random.seed(0)  # noqa: NPY002
    first, second = _uniform(None, batch=1), _uniform(None, batch=1)
    np.random.seed(0)  # noqa: NPY002
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, _uniform(None, batch=1))


def test_another_number_of_seeds_than_images_is_refused() -> None:
    with pytest.raises(SegNeXtError, match="2 seeds for a batch of 3 images"):
        _uniform([1, 2], batch=3)


@pytest.fixture(scope="module")
def model() -> Any:
    return create_model("tiny", num_classes=5)


@pytest.fixture(scope="module")
def images() -> Any:
    return drawn_images((2, 3, 64, 96), seed=6)


def _logits(model: Any, images: Any, seeds: list[Any] | None) -> np.ndarray:
    model.seed_noise(seeds)
    with jt.no_grad():
        return model(jt.array(images)).numpy()


def test_a_checkpoint_has_one_prediction_whatever_the_batch(model: Any, images: Any) -> None:
    model.eval()
    both = _logits(model, images, None)
    np.testing.assert_array_equal(both, _logits(model, images, None))
    np.testing.assert_allclose(both[1:], _logits(model, images[1:], None), rtol=1e-4, atol=1e-6)


def test_bases_of_another_seed_change_the_prediction(model: Any, images: Any) -> None:
    model.eval()
    first, again, other = (_logits(model, images, [seed, 0]) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[0], other[0])
    np.testing.assert_allclose(first[1], other[1], rtol=1e-4, atol=1e-6)


def test_bases_have_columns_of_unit_length(model: Any) -> None:
    model.seed_noise([3, 4])
    model._noise.start(2, training=False)
    bases = model.decode_head.hamburger.ham.draw_bases(2, 256, 16)
    assert bases.shape == (2, 256, 16)
    assert bases.min() >= 0
    np.testing.assert_allclose(np.linalg.norm(bases, axis=1), 1, rtol=1e-5)


def test_training_repeats_itself_with_the_same_seeds_alone(model: Any, images: Any) -> None:
    model.train()
    first, again, other = (_logits(model, images, [(0, i, 0), (0, i, 1)]) for i in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
