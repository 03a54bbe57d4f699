"""Inference against a plain full-size NumPy computation, and its window, scale and seed rules."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from segnext.data.augmentation import normalize
from segnext.data.settings import MULTI_SCALE_RATIOS, InferenceSettings, Windows
from segnext.errors import ConfigError
from segnext.evaluation.inference import (
    SegmentationPredictor,
    bases_seed,
    evaluation_mode,
    input_size,
    resize_for_test,
    window_boxes,
    window_places,
)
from segnext.kernels.labels import MOST_WINDOWS
from segnext.kernels.sampling import bilinear_taps
from tests.evaluation.fakes import FakeModel

Float = NDArray[np.float64]


def image_of(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def resize_axis(x: Float, axis: int, target: int) -> Float:
    """Bilinear along one axis, half-pixel centres, written as an interpolation of sample positions."""
    source = x.shape[axis]
    position = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    return np.apply_along_axis(lambda line: np.interp(position, np.arange(source), line), axis, x)


def resize(x_CHW: Float, height: int, width: int) -> Float:
    return resize_axis(resize_axis(x_CHW, 1, height), 2, width)


def softmax(x: Float) -> Float:
    e = np.exp(x - x.max(0))
    return e / e.sum(0)


def resized_twice(image: NDArray[np.uint8], settings: InferenceSettings, ratio: float) -> NDArray[np.uint8]:
    """The official test pipeline: an 8-bit image that fits the scale, then that one to multiples of the divisor."""
    height, width = image.shape[:2]
    factor = ratio
    if settings.scale is not None:
        long, short = int(settings.scale[0] * ratio), int(settings.scale[1] * ratio)
        factor = min(long / max(height, width), short / min(height, width))
    fitted = int(width * factor + 0.5), int(height * factor + 0.5)
    stretched = tuple(int(np.ceil(side / settings.size_divisor)) * settings.size_divisor for side in fitted)
    for size in (fitted, stretched):
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    return image


def reference_probabilities(
    model: FakeModel, image: NDArray[np.uint8], settings: InferenceSettings, name: str
) -> Float:
    """The official evaluation at full size, float64, window after window."""
    passes = []
    for number, (ratio, flipped) in enumerate(settings.passes):
        view = resized_twice(image, settings, ratio)
        height, width = view.shape[:2]
        if flipped:
            view = np.ascontiguousarray(view[:, ::-1])
        total = np.zeros((model.classes, height, width))
        hits = np.zeros((height, width))
        for k, (top, bottom, left, right) in enumerate(window_places(settings, height, width)):
            seed = bases_seed(0, repeat=0, name=name, pass_number=number, window_number=k)
            pixels = normalize(np.ascontiguousarray(view[top:bottom, left:right]))
            logits = model.logits(pixels[None], [seed])[0].astype(np.float64)
            total[:, top:bottom, left:right] += resize(logits, bottom - top, right - left)
            hits[top:bottom, left:right] += 1
        scores = softmax(resize(total / hits, *image.shape[:2]))
        passes.append(scores[:, :, ::-1] if flipped else scores)
    return np.mean(passes, axis=0)


SMALL: dict[str, Any] = {"scale": (128, 64), "size_divisor": 32}
CASES = {
    "whole image": InferenceSettings(**SMALL),
    "sliding window": InferenceSettings(
        windows=Windows.slide, scale=None, size_divisor=1, crop=(64, 64), stride=(40, 40)
    ),
    "multi-scale and flip": InferenceSettings(tta=True, **SMALL),
    "sliding window, multi-scale and flip": InferenceSettings(
        tta=True, windows=Windows.slide, scale=(128, 96), size_divisor=1, crop=(64, 64), stride=(48, 48), window_batch=3
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_probabilities_equal_the_plain_full_size_computation(case: str) -> None:
    model, image = FakeModel(5, noise=0.5), image_of(83, 117)
    predictor = SegmentationPredictor(model, CASES[case])
    expected = reference_probabilities(model, image, CASES[case], "a")
    actual = predictor.probabilities(image, "a")
    assert actual.shape == (5, 83, 117)
    np.testing.assert_allclose(actual, expected, atol=2e-5)
    confident = np.diff(np.sort(expected, axis=0)[-2:], axis=0)[0] > 1e-4
    assert (predictor.predict(image, "a") == expected.argmax(0))[confident].all()


@pytest.mark.parametrize("case", CASES)
def test_strips_change_nothing(case: str) -> None:
    image = image_of(83, 117)
    whole = SegmentationPredictor(FakeModel(5), CASES[case], strip_floats=10**9)
    strips = SegmentationPredictor(FakeModel(5), CASES[case], strip_floats=3000)
    assert np.array_equal(whole.predict(image), strips.predict(image))
    # softmax's exponential may round differently in the last bit at the end of a vectorised loop
    np.testing.assert_allclose(whole.probabilities(image), strips.probabilities(image), rtol=1e-6)


def test_more_windows_than_an_operator_takes_give_the_labels_of_strips() -> None:
    settings = InferenceSettings(windows=Windows.slide, scale=None, size_divisor=1, crop=(32, 32), stride=(8, 8))
    image = image_of(112, 128)
    assert len(window_places(settings, 112, 128)) > MOST_WINDOWS
    fused = SegmentationPredictor(FakeModel(5), settings).predict(image)
    assert np.array_equal(fused, SegmentationPredictor(FakeModel(5), settings, strip_floats=10**9).predict(image))


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (700, [(0, 700)]),
        (1024, [(0, 1024)]),
        (1280, [(0, 1024), (256, 1280)]),
        (1536, [(0, 1024), (512, 1536)]),
        (1792, [(0, 1024), (768, 1792)]),
        (2048, [(0, 1024), (768, 1792), (1024, 2048)]),
        (2560, [(0, 1024), (768, 1792), (1536, 2560)]),
    ],
)
def test_windows_of_the_official_rule(length: int, expected: list[tuple[int, int]]) -> None:
    assert window_boxes(length, window=1024, stride=768) == expected


def test_the_multi_scale_widths_of_cityscapes_take_four_and_five_windows() -> None:
    assert [len(window_boxes(n, window=1024, stride=768)) for n in (3072, 3584)] == [4, 5]


def test_cityscapes_is_shown_in_three_windows() -> None:
    settings = InferenceSettings(windows=Windows.slide, scale=(2048, 1024), size_divisor=1)
    boxes = window_places(settings, *input_size(settings, 1024, 2048, 1.0))
    assert [(left, right) for _, _, left, right in boxes] == [(0, 1024), (768, 1792), (1024, 2048)]


@pytest.mark.parametrize(
    ("size", "expected"), [((960, 1280), (512, 704)), ((256, 256), (512, 512)), ((512, 683), (512, 704))]
)
def test_ade_images_are_fitted_into_2048x512_and_stretched_to_multiples_of_32(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert input_size(InferenceSettings(), *size, 1.0) == expected


@pytest.mark.parametrize("ratio", MULTI_SCALE_RATIOS)
@pytest.mark.parametrize("width_and_height", [(683, 512), (640, 425), (500, 333), (2049, 511), (97, 131), (33, 32)])
def test_an_image_enters_the_network_resized_twice(width_and_height: tuple[int, int], ratio: float) -> None:
    width, height = width_and_height
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = cv2.GaussianBlur(image, (5, 5), 0)
    settings = InferenceSettings(tta=True)
    view = resize_for_test(image, settings, ratio)
    assert view.shape[:2] == input_size(settings, height, width, ratio)
    assert np.array_equal(view, resized_twice(image, settings, ratio))


def test_a_name_that_is_no_utf_8_seeds_the_bases() -> None:
    arguments = {"repeat": 0, "pass_number": 0, "window_number": 0}
    seeds = {bases_seed(0, name=name, **arguments) for name in ("caf\udce9", "caf\udce8", "café")}
    assert len(seeds) == 3


def test_multi_scale_sizes_truncate_the_scaled_sides() -> None:
    # ratio 0.75 of (2048, 512) = (1536, 384); 512x683: factor min(1536/683, 384/512) = 0.75 -> 384x512
    assert input_size(InferenceSettings(tta=True), 512, 683, 0.75) == (384, 512)


def test_multi_scale_takes_twelve_passes_scale_by_scale_unflipped_first() -> None:
    passes = InferenceSettings(tta=True).passes
    assert len(passes) == 12
    assert passes[:3] == ((0.5, False), (0.5, True), (0.75, False))
    assert passes[-1] == (1.75, True)


def test_no_input_is_smaller_than_one_cell_of_the_last_stage() -> None:
    assert input_size(InferenceSettings(scale=None, size_divisor=1), 5, 40, 0.5) == (32, 32)


def test_every_pass_and_window_has_its_own_seed_and_the_same_seed_again() -> None:
    settings = CASES["sliding window, multi-scale and flip"]
    seeds: list[list[int]] = []
    for _ in range(2):
        model = FakeModel(3)
        SegmentationPredictor(model, settings).predict(image_of(83, 117), "a")
        seeds.append(sorted(seed for batch in model.seeds for seed in batch))
    assert seeds[0] == seeds[1]
    assert len(set(seeds[0])) == len(seeds[0]) > 12


@pytest.mark.parametrize("change", [{"seed": 1}, {"repeat": 1}, {"name": "b"}])
def test_another_seed_draw_or_image_name_means_other_bases(change: dict[str, Any]) -> None:
    name = change.pop("name", "a")
    model = FakeModel(6, noise=1.0)
    base = SegmentationPredictor(model, CASES["whole image"]).probabilities(image_of(64, 64), "a")
    other = SegmentationPredictor(model, CASES["whole image"], **change).probabilities(image_of(64, 64), name)
    assert np.abs(base - other).max() > 0.01


def test_the_result_does_not_depend_on_how_images_are_batched() -> None:
    images, names = [image_of(64, 96, seed) for seed in range(3)], ["a", "b", "c"]
    settings = InferenceSettings(tta=True, window_batch=4, **SMALL)
    model = FakeModel(4, noise=1.0)
    together = SegmentationPredictor(model, settings).predict_batch(images, names)
    assert max(shape[0] for shape in model.input_shapes) == 4
    alone = SegmentationPredictor(FakeModel(4, noise=1.0), InferenceSettings(tta=True, window_batch=1, **SMALL))
    for image, name, labels in zip(images, names, together, strict=True):
        assert np.array_equal(alone.predict(image, name), labels)


def test_taps_clamp_at_both_ends_and_hit_the_half_pixel_centres() -> None:
    # 2 -> 4 samples: positions -0.25, 0.25, 0.75, 1.25 clamped to 0…1
    taps = bilinear_taps(2, 4)
    assert taps.first.tolist() == [0, 0, 0, 1]
    assert taps.second.tolist() == [1, 1, 1, 1]
    assert taps.weight.tolist() == [0.0, 0.25, 0.75, 0.0]


def test_evaluation_mode_puts_a_training_model_back_even_after_an_error() -> None:
    model = FakeModel(2)
    seen = []

    def fail() -> None:
        with evaluation_mode(model):
            seen.append(model.is_training())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert seen == [False]
    assert model.is_training()


def test_evaluation_mode_leaves_an_evaluating_model_as_it_is() -> None:
    model = FakeModel(2)
    model.eval()
    with evaluation_mode(model):
        pass
    assert not model.is_training()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"windows": "crop"}, "dataset.test.windows=crop"),
        ({"stride": (0, 768)}, r"stride=\[0, 768\]"),
        ({"stride": (768, 1025)}, r"stride=\[768, 1025\]"),
        ({"size_divisor": 0}, "size_divisor=0"),
        ({"window_batch": 0}, "window_batch=0"),
        ({"tta": True, "ratios": ()}, r"ratios=\[\]"),
    ],
)
def test_impossible_settings_are_refused_by_name(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        InferenceSettings(**wrong)
