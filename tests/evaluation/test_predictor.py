"""The segmenter takes any sensible array and refuses the rest by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import segnext
from segnext.data.classes import SHAPES
from segnext.data.settings import InferenceSettings
from segnext.errors import DataError, SegNeXtError, WeightsError
from segnext.evaluation.predictor import Segmenter
from tests.evaluation.fakes import FakeModel

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 56, 3)).astype(np.uint8)


def fake_segmenter() -> Segmenter:
    settings = InferenceSettings(scale=None, size_divisor=1)
    return Segmenter(FakeModel(len(SHAPES)), SHAPES, settings=settings)


def test_labels_have_the_size_of_the_image_and_are_the_most_probable_classes() -> None:
    segmenter = fake_segmenter()
    labels, probabilities = segmenter.predict(IMAGE), segmenter.predict_proba(IMAGE)
    assert labels.shape == (40, 56)
    assert np.array_equal(labels, probabilities.argmax(0))
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-5)


@pytest.mark.parametrize("method", ["predict", "predict_proba"])
def test_missing_memory_is_explained_with_what_to_lower(method: str) -> None:
    class TooLarge(FakeModel):
        def __call__(self, images: Any) -> Any:
            raise RuntimeError("Unable to alloc cuda device memory for size 8589934592")

    segmenter = Segmenter(TooLarge(len(SHAPES)), SHAPES, settings=InferenceSettings(scale=None, size_divisor=1))
    with pytest.raises(SegNeXtError, match=r"out of memory: take dataset\.test\.windows=slide"):
        getattr(segmenter, method)(IMAGE)


def test_grey_images_count_as_colourless_and_alpha_is_dropped() -> None:
    segmenter = fake_segmenter()
    grey = IMAGE[:, :, 0]
    assert np.array_equal(segmenter.predict(grey), segmenter.predict(np.stack([grey] * 3, axis=2)))
    rgba = np.concatenate([IMAGE, IMAGE[:, :, :1]], axis=2)
    assert np.array_equal(segmenter.predict(rgba), segmenter.predict(IMAGE))


def test_a_batch_equals_its_images_one_by_one() -> None:
    segmenter = fake_segmenter()
    images = [IMAGE, IMAGE[::-1], IMAGE[:32]]
    for labels, image in zip(segmenter.predict_batch(images), images, strict=True):
        assert np.array_equal(labels, segmenter.predict(image))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (IMAGE / 255, "float64"),
        (IMAGE[:, :, :2], r"\(40, 56, 2\)"),
        (IMAGE[None], r"\(1, 40, 56, 3\)"),
        (IMAGE[:0], r"\(0, 56, 3\)"),
    ],
)
def test_an_array_that_is_no_image_is_refused_by_its_shape_or_type(image: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        fake_segmenter().predict(image)


def test_the_package_offers_the_segmenter() -> None:
    assert segnext.Segmenter is Segmenter


def test_a_foreign_file_needs_model_and_classes(tmp_path: Path) -> None:
    save_file({"x": np.zeros(1, np.float32)}, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match="name model"):
        Segmenter.from_checkpoint(tmp_path / "a.safetensors")
