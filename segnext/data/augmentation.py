"""The training augmentation of the official SegNeXt recipe, and the normalisation that evaluation shares.

Same operations, order and arithmetic as the reference pipeline (mmsegmentation 0.24: Resize, RandomCrop, RandomFlip,
PhotoMetricDistortion, Normalize, Pad). Two things differ on purpose: every draw comes from the generator passed in,
and pixels are RGB, which yields the same values as the reference's BGR. Every point operation is a look-up table.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from segnext.data.classes import IGNORE_LABEL
from segnext.data.datasets import Sample
from segnext.data.resize import keep_ratio_size, resize_image, resize_label
from segnext.data.settings import AugmentationSettings

__all__ = ["MEAN", "STD", "TrainingTransform", "distort_colours", "normalize", "random_crop_offset"]

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]

MEAN = (123.675, 116.28, 103.53)
"""Mean of ImageNet's red, green and blue, on the scale 0 … 255."""
STD = (58.395, 57.12, 57.375)
"""Standard deviation of ImageNet's red, green and blue, on the scale 0 … 255."""

_LEVELS = np.arange(256, dtype=np.float32)
# Row c maps a uint8 value of channel c to its normalised value, by the reference's own float32 arithmetic.
_NORMALIZED = (_LEVELS - np.array(MEAN, np.float32)[:, None]) / np.array(STD, np.float32)[:, None]


def normalize(image: UInt8, out: Float32 | None = None) -> Float32:
    """Maps (H, W, 3) uint8 RGB to (3, H, W) float32, ``(float32(x) - float32(mean)) / float32(std)`` bit for bit.

    ``out`` takes the result when given; its three planes may be cut from larger ones.
    """
    if out is None:
        out = np.empty((3, *image.shape[:2]), np.float32)
    for channel in range(3):
        out[channel] = cv2.LUT(cv2.extractChannel(image, channel), _NORMALIZED[channel])
    return out


class TrainingTransform:
    """Turns a sample into a training pair of the size ``settings.crop`` (§3.2 of the official configurations)."""

    def __init__(self, settings: AugmentationSettings) -> None:
        self.settings = settings

    @property
    def crop(self) -> tuple[int, int]:
        """(height, width) of the result in pixels."""
        return self.settings.crop

    def __call__(self, sample: Sample, rng: np.random.Generator) -> tuple[Float32, UInt8]:
        """Returns the image (3, h, w) float32 normalised and the label (h, w) uint8, with (h, w) = ``crop``."""
        image = np.empty((3, *self.crop), np.float32)
        label = np.empty(self.crop, np.uint8)
        self.write(sample, rng, image, label)
        return image, label

    def write(self, sample: Sample, rng: np.random.Generator, out_image: Float32, out_label: UInt8) -> None:
        """As calling it, but into the arrays given (those of a batch in shared memory, for instance)."""
        image, label = sample
        low, high = self.settings.ratio_range
        ratio = rng.random() * (high - low) + low
        long, short = self.settings.scale
        size = keep_ratio_size(label.shape[0], label.shape[1], (max(int(long * ratio), 1), max(int(short * ratio), 1)))
        image, label = resize_image(image, size), resize_label(label, size)

        y, x = random_crop_offset(label, self.crop, self.settings.cat_max_ratio, rng)
        window = slice(y, y + self.crop[0]), slice(x, x + self.crop[1])
        image, label = image[window], label[window]

        if rng.random() < self.settings.flip_probability:
            image, label = cv2.flip(image, 1), cv2.flip(label, 1)
        if self.settings.photometric:
            image = distort_colours(image, rng)

        height, width = label.shape
        normalize(image, out_image[:, :height, :width])
        out_image[:, height:, :] = 0
        out_image[:, :height, width:] = 0
        out_label[:height, :width] = label
        out_label[height:, :] = IGNORE_LABEL
        out_label[:height, width:] = IGNORE_LABEL


def random_crop_offset(
    label: UInt8, crop: tuple[int, int], cat_max_ratio: float, rng: np.random.Generator
) -> tuple[int, int]:
    """Draws the top left corner (y, x) of a crop of (height, width) ``crop``, vertical first.

    A draw is accepted when its labelled pixels show more than one class and none of them fills ``cat_max_ratio`` of
    these pixels; after ten refusals the eleventh draw is returned unchecked.
    """
    height, width = crop
    room_y, room_x = max(label.shape[0] - height, 0) + 1, max(label.shape[1] - width, 0) + 1

    def draw() -> tuple[int, int]:
        return int(rng.integers(room_y)), int(rng.integers(room_x))

    y, x = draw()
    if cat_max_ratio >= 1:
        return y, x
    for _ in range(10):
        histogram = cv2.calcHist([label[y : y + height, x : x + width]], [0], None, [256], [0, 256]).ravel()
        counts = histogram[:IGNORE_LABEL]
        if np.count_nonzero(counts) > 1 and counts.max() / counts.sum(dtype=np.float64) < cat_max_ratio:
            break
        y, x = draw()
    return y, x


def distort_colours(image: UInt8, rng: np.random.Generator) -> UInt8:
    """Shifts brightness, contrast, saturation and hue of (H, W, 3) uint8 RGB, each with probability 1/2.

    Contrast comes second or last, by a coin. Each step ends in uint8 by clipping and truncation; saturation and
    hue each pass through OpenCV's 8-bit HSV (hue 0 … 179) on their own.
    """

    def coin() -> bool:
        return bool(rng.integers(2))

    def contrast(pixels: UInt8) -> UInt8:
        return _look_up(pixels, _linear(alpha=rng.uniform(0.5, 1.5))) if coin() else pixels

    if coin():
        image = _look_up(image, _linear(beta=rng.uniform(-32, 32)))
    contrast_first = coin()
    if contrast_first:
        image = contrast(image)
    if coin():
        saturation = _linear(alpha=rng.uniform(0.5, 1.5))
        image = _in_hsv(image, hue=_IDENTITY, saturation=saturation)
    if coin():
        shift = int(rng.integers(-18, 18))  # the upper end is exclusive in the reference, too
        image = _in_hsv(image, hue=((np.arange(256) + shift) % 180).astype(np.uint8), saturation=_IDENTITY)
    return image if contrast_first else contrast(image)


_IDENTITY = np.arange(256, dtype=np.uint8)


def _linear(*, alpha: float = 1.0, beta: float = 0.0) -> UInt8:
    """The table of ``x * alpha + beta`` in float32, clipped to 0 … 255 and truncated."""
    values = _LEVELS * np.float32(alpha) + np.float32(beta)
    return np.clip(values, 0, 255).astype(np.uint8)


def _look_up(image: UInt8, table: UInt8) -> UInt8:
    mapped: UInt8 = cv2.LUT(image, table)
    return mapped


def _in_hsv(image: UInt8, *, hue: UInt8, saturation: UInt8) -> UInt8:
    table = np.stack([hue, saturation, _IDENTITY], axis=-1)[None]
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    mapped: UInt8 = cv2.cvtColor(cv2.LUT(hsv, table), cv2.COLOR_HSV2RGB)
    return mapped
