"""An image of which a few rows at a time are held gets the labels that it gets as a whole."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray

from segnext.data.settings import InferenceSettings, Windows
from segnext.evaluation.inference import SegmentationPredictor
from tests.evaluation.fakes import NumpyFakeModel

SLIDE = InferenceSettings(
    windows=Windows.slide, scale=None, size_divisor=1, crop=(64, 48), stride=(40, 32), window_batch=3
)


def by_rows(predictor: SegmentationPredictor, image: NDArray[np.uint8]) -> NDArray[np.int32]:
    found: list[NDArray[np.int32]] = []

    def write(start: int, rows: NDArray[np.int32]) -> None:
        assert start == sum(map(len, found))
        found.append(rows)

    predictor.predict_by_rows(image.shape[:2], lambda start, stop: image[start:stop], write, "a")
    return np.concatenate(found)


@pytest.mark.parametrize("size", [(40, 36), (64, 48), (65, 200), (200, 49), (311, 157)])
@pytest.mark.parametrize("strip_floats", [None, 2_000])
def test_labels_are_those_of_the_whole_image(size: tuple[int, int], strip_floats: int | None) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    predictor = SegmentationPredictor(NumpyFakeModel(5, noise=0.3), SLIDE, seed=3, strip_floats=strip_floats)
    np.testing.assert_array_equal(by_rows(predictor, image), predictor.predict(image, "a"))


def test_memory_is_bound_by_the_width() -> None:
    height, width, classes = 6_000, 200, 8
    model = NumpyFakeModel(classes)
    predictor = SegmentationPredictor(model, SLIDE, strip_floats=2**16)
    rows = np.random.default_rng(0).integers(0, 256, (64, width, 3), np.uint8)
    counted = 0

    def write(start: int, labels: NDArray[np.int32]) -> None:
        nonlocal counted
        counted += labels.size

    tracemalloc.start()
    try:
        predictor.predict_by_rows((height, width), lambda start, stop: rows[: stop - start], write)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert counted == height * width
    assert peak < height * width * 3 / 2  # half of the image's bytes, of its scores not to speak


def test_only_windows_over_the_image_as_it_is_are_taken_by_rows() -> None:
    def takes(**changes: object) -> bool:
        settings = InferenceSettings(**{"windows": Windows.slide, "scale": None, "size_divisor": 1, **changes})  # type: ignore[arg-type]
        return SegmentationPredictor(NumpyFakeModel(2), settings).takes_rows((90, 70))

    assert takes()
    assert takes(scale=(90, 90))
    assert not any((takes(windows=Windows.whole), takes(tta=True), takes(scale=(180, 90)), takes(size_divisor=32)))
