from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from segnext.data.augmentation import MEAN, STD, TrainingTransform, distort_colours, normalize, random_crop_offset
from segnext.data.datasets import Sample
from segnext.data.settings import AugmentationSettings
from segnext.errors import ConfigError

UInt8 = npt.NDArray[np.uint8]


class Script:
    """A generator whose draws are written down beforehand; it fails when another kind of draw is asked for."""

    def __init__(self, *draws: tuple[str, float]) -> None:
        self.draws = list(draws)

    def _next(self, kind: str) -> Any:
        expected, value = self.draws.pop(0)
        assert kind == expected
        return value

    def random(self) -> Any:
        return self._next("random")

    def integers(self, low: int, high: int | None = None) -> Any:
        low, high = (0, low) if high is None else (low, high)
        value = self._next(f"integers {low} {high}")
        assert low <= value < high
        return value

    def uniform(self, low: float, high: float) -> Any:
        return self._next(f"uniform {low} {high}")


def rng(*draws: tuple[str, float]) -> Any:
    return Script(*draws)


NO, YES = ("integers 0 2", 0), ("integers 0 2", 1)


def noise(height: int, width: int, seed: int = 0) -> UInt8:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def plain(image: UInt8, label: UInt8, *, crop: tuple[int, int], scale: tuple[int, int], draws: Any) -> Any:
    """The transform without colour changes and crop check."""
    transform = TrainingTransform(AugmentationSettings(crop, scale, cat_max_ratio=1.0, photometric=False))
    return transform(Sample(image, label), draws)


class TestNormalize:
    def test_every_value_is_exact_to_the_bit(self) -> None:
        image = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=-1)
        expected = (image.astype(np.float32) - np.float32(MEAN)) / np.float32(STD)
        assert normalize(image).dtype == np.float32
        assert np.array_equal(normalize(image), expected.transpose(2, 0, 1))

    def test_figures_worked_by_hand(self) -> None:
        image = np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)
        hand = [[-2.117904, 2.248908], [-2.035714, 2.428571], [-1.804444, 2.640000]]
        assert np.allclose(normalize(image)[:, 0], hand, atol=1e-6)

    def test_it_writes_into_part_of_a_larger_array(self) -> None:
        image = noise(4, 5)
        larger = np.full((3, 6, 7), 9, np.float32)
        normalize(image, larger[:, :4, :5])
        assert np.array_equal(larger[:, :4, :5], normalize(image))
        assert (larger[:, 4:] == 9).all()


class TestResizeStep:
    @pytest.mark.parametrize(
        ("draw", "size"),
        [
            (0.0, (4, 8)),  # ratio 0.5 halves
            (1 / 3, (8, 16)),  # ratio 1
            (0.5, (10, 20)),  # ratio 1.25
        ],
    )
    def test_the_ratio_multiplies_the_scale(self, draw: float, size: tuple[int, int]) -> None:
        label = np.zeros((8, 16), np.uint8)
        draws = rng(("random", draw), ("integers 0 1", 0), ("integers 0 1", 0), ("random", 0.9))
        _, out = plain(noise(8, 16), label, crop=(64, 64), scale=(16, 8), draws=draws)
        inside = np.argwhere(out == 0)
        assert tuple(inside.max(axis=0) + 1) == size

    def test_the_scaled_sides_are_truncated(self) -> None:
        # ratio 1.49: (int(10 * 1.49), int(10 * 1.49)) = (14, 14), so 10 × 10 becomes 14 × 14 and not 15 × 15
        draws = rng(("random", 0.66), ("integers 0 1", 0), ("integers 0 1", 0), ("random", 0.9))
        _, out = plain(noise(10, 10), np.zeros((10, 10), np.uint8), crop=(20, 20), scale=(10, 10), draws=draws)
        assert (out == 0).sum() == 14 * 14

    def test_image_and_label_are_those_of_opencv(self) -> None:
        image, label = noise(9, 13), np.arange(117, dtype=np.uint8).reshape(9, 13)
        draws = rng(("random", 1.0), ("integers 0 1", 0), ("integers 0 1", 0), ("random", 0.9))
        out_image, out_label = plain(image, label, crop=(18, 26), scale=(13, 9), draws=draws)
        assert np.array_equal(out_image, normalize(cv2.resize(image, (26, 18))))
        assert np.array_equal(out_label, np.repeat(np.repeat(label, 2, axis=0), 2, axis=1))


class TestCrop:
    def test_the_offset_is_drawn_vertically_first_over_all_places(self) -> None:
        label = np.zeros((10, 30), np.uint8)
        draws = rng(("integers 0 7", 6), ("integers 0 26", 25))
        assert random_crop_offset(label, (4, 5), 1.0, draws) == (6, 25)

    def test_a_crop_of_two_balanced_classes_is_taken(self) -> None:
        label = np.array([[0, 0, 1, 1]], np.uint8)
        assert random_crop_offset(label, (1, 4), 0.75, rng(("integers 0 1", 0), ("integers 0 1", 0))) == (0, 0)

    @pytest.mark.parametrize(
        "window",
        [
            [0, 0, 0, 0],  # one class
            [0, 0, 0, 1],  # three quarters are not less than three quarters
            [0, 255, 255, 255],  # one class beside ignored pixels
            [255, 255, 255, 255],  # nothing labelled
        ],
    )
    def test_a_crop_filled_by_one_class_is_drawn_again(self, window: list[int]) -> None:
        label = np.array([[*window, 9, 8, 9, 8]], np.uint8)
        draws = rng(("integers 0 1", 0), ("integers 0 5", 0), ("integers 0 1", 0), ("integers 0 5", 4))
        assert random_crop_offset(label, (1, 4), 0.75, draws) == (0, 4)

    def test_ignored_pixels_do_not_count_in_the_share(self) -> None:
        label = np.array([[0, 1, 255, 255]], np.uint8)  # one half each
        assert random_crop_offset(label, (1, 4), 0.75, rng(("integers 0 1", 0), ("integers 0 1", 0))) == (0, 0)

    def test_the_eleventh_draw_is_taken_unchecked(self) -> None:
        label = np.zeros((1, 40), np.uint8)
        columns = [*range(10), 33]
        draws = rng(*(draw for x in columns for draw in (("integers 0 1", 0), ("integers 0 37", x))))
        assert random_crop_offset(label, (1, 4), 0.75, draws) == (0, 33)
        assert draws.draws == []

    def test_a_side_shorter_than_the_crop_is_not_cut(self) -> None:
        draws = rng(("integers 0 1", 0), ("integers 0 6", 5))
        assert random_crop_offset(np.zeros((3, 10), np.uint8), (8, 5), 1.0, draws) == (0, 5)

    def test_image_and_label_are_cut_at_the_same_place(self) -> None:
        image, label = noise(6, 8), np.arange(48, dtype=np.uint8).reshape(6, 8)
        draws = rng(("random", 1 / 3), ("integers 0 4", 2), ("integers 0 4", 3), ("random", 0.9))
        out_image, out_label = plain(image, label, crop=(3, 5), scale=(8, 6), draws=draws)
        assert np.array_equal(out_image, normalize(image[2:5, 3:8]))
        assert np.array_equal(out_label, label[2:5, 3:8])


class TestFlip:
    @pytest.mark.parametrize(("draw", "flipped"), [(0.4999, True), (0.5, False)])
    def test_it_flips_image_and_label_below_one_half(self, draw: float, flipped: bool) -> None:
        image, label = noise(2, 3), np.arange(6, dtype=np.uint8).reshape(2, 3)
        draws = rng(("random", 1 / 3), ("integers 0 1", 0), ("integers 0 1", 0), ("random", draw))
        out_image, out_label = plain(image, label, crop=(2, 3), scale=(3, 2), draws=draws)
        assert out_label.tolist() == ([[2, 1, 0], [5, 4, 3]] if flipped else [[0, 1, 2], [3, 4, 5]])
        assert np.array_equal(out_image, normalize(image[:, ::-1] if flipped else image))


class TestPadding:
    def test_the_mean_colour_and_255_fill_up_right_and_bottom(self) -> None:
        image, label = noise(2, 3), np.ones((2, 3), np.uint8)
        draws = rng(("random", 1 / 3), ("integers 0 1", 0), ("integers 0 1", 0), ("random", 0.9))
        out_image, out_label = plain(image, label, crop=(4, 5), scale=(3, 2), draws=draws)
        assert out_label.tolist() == [[1, 1, 1, 255, 255]] * 2 + [[255] * 5] * 2
        assert (out_image[:, out_label == 255] == 0).all()
        assert np.array_equal(out_image[:, :2, :3], normalize(image))


def pixel(*rgb: int) -> UInt8:
    return np.array([[rgb]], np.uint8)


class TestPhotometricDistortion:
    def test_all_coins_down_change_nothing(self) -> None:
        image = noise(3, 4)
        draws = rng(NO, NO, NO, NO, NO)
        assert np.array_equal(distort_colours(image, draws), image)
        assert draws.draws == []

    def test_brightness_is_clipped_and_truncated(self) -> None:
        draws = rng(YES, ("uniform -32 32", 10.9), NO, NO, NO, NO)
        assert distort_colours(pixel(0, 100, 250), draws).tolist() == [[[10, 110, 255]]]

    def test_darkening_stops_at_zero(self) -> None:
        draws = rng(YES, ("uniform -32 32", -20.5), NO, NO, NO, NO)
        assert distort_colours(pixel(20, 21, 255), draws).tolist() == [[[0, 0, 234]]]

    def test_contrast_comes_second_when_the_mode_coin_is_up(self) -> None:
        draws = rng(NO, YES, YES, ("uniform 0.5 1.5", 1.1), NO, NO)
        assert distort_colours(pixel(10, 55, 250), draws).tolist() == [[[11, 60, 255]]]

    def test_contrast_comes_last_when_it_is_down(self) -> None:
        draws = rng(NO, NO, NO, NO, YES, ("uniform 0.5 1.5", 1.1))
        assert distort_colours(pixel(10, 55, 250), draws).tolist() == [[[11, 60, 255]]]

    def test_each_step_ends_in_whole_numbers(self) -> None:
        # 101 + 0.9 -> 101, and 101 * 1.5 -> 151; without the cut in between it would be 152
        draws = rng(YES, ("uniform -32 32", 0.9), YES, YES, ("uniform 0.5 1.5", 1.5), NO, NO)
        assert distort_colours(pixel(101, 101, 101), draws).tolist() == [[[151, 151, 151]]]

    def test_saturation_halves_the_distance_to_grey(self) -> None:
        # S = 255 * (255 - 55) / 255 = 200; halved to 100, the smaller channels become 255 * (1 - 100 / 255) = 155
        draws = rng(NO, NO, YES, ("uniform 0.5 1.5", 0.5), NO, NO)
        assert distort_colours(pixel(255, 55, 55), draws).tolist() == [[[255, 155, 155]]]

    def test_a_hue_shift_goes_round_the_circle(self) -> None:
        # red has hue 0, and 15 less is 165 of 180, a colour half way between magenta and red
        draws = rng(NO, NO, NO, YES, ("integers -18 18", -15), NO)
        assert distort_colours(pixel(200, 0, 0), draws).tolist() == [[[200, 0, 100]]]

    def test_the_largest_hue_shift_is_17(self) -> None:
        hues = set()
        for seed in range(2000):
            image = distort_colours(pixel(0, 200, 0), _HueOnly(seed))  # type: ignore[arg-type]
            hues.add(int(cv2.cvtColor(image, cv2.COLOR_RGB2HSV)[0, 0, 0]) - 60)
        assert (min(hues), max(hues)) == (-18, 17)

    @pytest.mark.parametrize("seed", range(8))
    def test_it_equals_the_reference_computed_step_by_step_on_bgr(self, seed: int) -> None:
        image = noise(24, 24, seed)
        expected = _reference_on_bgr(image[..., ::-1], np.random.default_rng(seed))[..., ::-1]
        assert np.array_equal(distort_colours(image, np.random.default_rng(seed)), expected)


class _HueOnly:
    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.coins = [0, 0, 0, 1, 0]

    def integers(self, low: int, high: int | None = None) -> int:
        return self.coins.pop(0) if high is None else int(self.rng.integers(low, high))


def _reference_on_bgr(image: UInt8, draw: np.random.Generator) -> UInt8:
    """REFERENCE §3.2(6) with plain float arithmetic."""

    def linear(pixels: Any, alpha: float = 1, beta: float = 0) -> Any:
        shifted = pixels.astype(np.float32) * np.float32(alpha) + np.float32(beta)
        return np.clip(shifted, 0, 255).astype(np.uint8)

    image = np.ascontiguousarray(image)
    if draw.integers(2):
        image = linear(image, beta=draw.uniform(-32, 32))
    mode = draw.integers(2)
    if mode == 1 and draw.integers(2):
        image = linear(image, alpha=draw.uniform(0.5, 1.5))
    if draw.integers(2):
        hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
        hsv[..., 1] = linear(hsv[..., 1], alpha=draw.uniform(0.5, 1.5))
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    if draw.integers(2):
        hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
        hsv[..., 0] = (hsv[..., 0].astype(int) + draw.integers(-18, 18)) % 180
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    if mode == 0 and draw.integers(2):
        image = linear(image, alpha=draw.uniform(0.5, 1.5))
    return image


class TestWhole:
    def test_the_result_has_the_crops_size_and_is_fixed_by_the_seed(self) -> None:
        transform = TrainingTransform(AugmentationSettings((32, 48), (64, 40)))
        sample = Sample(noise(40, 60), np.random.default_rng(1).integers(0, 5, (40, 60), dtype=np.uint8))
        image, label = transform(sample, np.random.default_rng(3))
        assert (image.shape, image.dtype, label.shape, label.dtype) == ((3, 32, 48), np.float32, (32, 48), np.uint8)
        again_image, again_label = transform(sample, np.random.default_rng(3))
        assert np.array_equal(image, again_image)
        assert np.array_equal(label, again_label)
        assert not np.array_equal(image, transform(sample, np.random.default_rng(4))[0])

    def test_the_sample_itself_stays_as_it_is(self) -> None:
        sample = Sample(noise(40, 60), np.zeros((40, 60), np.uint8))
        before = sample.image.copy()
        transform = TrainingTransform(AugmentationSettings((40, 60), (60, 40), ratio_range=(1, 1)))
        for seed in range(20):
            transform(sample, np.random.default_rng(seed))
        assert np.array_equal(sample.image, before)

    @pytest.mark.parametrize("wrong", [{"crop": (0, 4)}, {"scale": (4, 0)}, {"ratio_range": (2.0, 0.5)}])
    def test_impossible_settings_are_refused(self, wrong: dict[str, Any]) -> None:
        settings: dict[str, Any] = {"crop": (4, 4), "scale": (8, 8), **wrong}
        with pytest.raises(ConfigError):
            AugmentationSettings(**settings)
