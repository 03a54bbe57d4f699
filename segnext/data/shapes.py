"""Textured shapes drawn from a seed: a dataset that needs no files and means something.

A class is a pair of form and texture ("striped disc", "dotted disc", "striped triangle" …); neither of the two alone
tells it. Colour is a hint and no more: every class leans towards a hue, but the hues of neighbours overlap widely.
Objects overlap, turn, vary in size and lie on a cloudy ground; noise and uneven light lie over everything.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from segnext.data.classes import SHAPES, ClassTable
from segnext.data.datasets import Sample
from segnext.errors import ConfigError

__all__ = ["ShapesDataset"]

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Rng = np.random.Generator

_HUE_SPREAD = 0.12
"""Standard deviation of an object's hue about its class's, in turns; classes are 0.2 apart."""

_STREAMS = {"train": 0, "val": 1, "test": 2}


@dataclass(frozen=True)
class ShapesDataset:
    """``length`` images of (height, width) ``size``; image i of a split is a function of (seed, split, i) alone.

    Raises:
        ConfigError: unknown split, no images, or a side under 32 pixels.
    """

    split: str
    length: int
    size: tuple[int, int] = (96, 96)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.split not in _STREAMS:
            raise ConfigError(f"dataset shapes has no split {self.split!r}: choose one of {', '.join(_STREAMS)}")
        if self.length < 1:
            raise ConfigError(f"dataset shapes needs at least one image per split, not {self.length}")
        if min(self.size) < 32:
            raise ConfigError(f"dataset shapes draws images from 32 pixels a side, not {self.size}")

    @property
    def classes(self) -> ClassTable:
        return SHAPES

    def __len__(self) -> int:
        return self.length

    def name(self, index: int) -> str:
        return f"{self.split}_{index:06d}"

    def read(self, index: int) -> Sample:
        if not 0 <= index < self.length:
            raise IndexError(f"shapes has images 0 to {self.length - 1}, not {index}")
        rng = np.random.default_rng([self.seed, _STREAMS[self.split], index])
        return _draw_scene(rng, self.size)


def _draw_scene(rng: Rng, size: tuple[int, int]) -> Sample:
    height, width = size
    image = _ground(rng, size)
    label = np.zeros(size, np.uint8)
    unit = min(size)
    for _ in range(int(rng.integers(2, 5))):
        kind = int(rng.integers(1, len(SHAPES)))
        form, texture = _KINDS[kind - 1]
        # centres keep to the picture's inside, so that most of an object is seen
        centre = rng.uniform(0.12, 0.88, 2) * (height, width)
        y, x = _own_coordinates(size, centre, rng.uniform(0, 2 * np.pi))
        radius = unit * rng.uniform(0.2, 0.32)
        inside = form(y / radius, x / radius)
        first, second = _two_colours(rng, kind)
        weave = texture(y, x, unit * rng.uniform(0.06, 0.085))[..., None]
        image = np.where(inside[..., None], np.where(weave, first, second), image)
        label[inside] = kind
    image = image * _light(rng, size)[..., None] + rng.normal(0, rng.uniform(3, 10), image.shape)
    return Sample(np.clip(image, 0, 255).astype(np.uint8), label)


def _own_coordinates(size: tuple[int, int], centre: Float64, angle: float) -> tuple[Float32, Float32]:
    """Pixel coordinates (y, x) in the frame of an object: its centre at the origin, turned by ``angle``."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    y, x = y - np.float32(centre[0]), x - np.float32(centre[1])
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return cosine * y - sine * x, sine * y + cosine * x


def _two_colours(rng: Rng, kind: int) -> tuple[Float64, Float64]:
    """A dark and a bright RGB colour of one hue, near that of the class."""
    hue = kind / len(_KINDS) + rng.normal(0, _HUE_SPREAD)
    dark, bright = rng.uniform(40, 110), rng.uniform(170, 255)
    return _rgb(hue, rng.uniform(0.5, 1), dark), _rgb(hue, rng.uniform(0.5, 1), bright)


def _rgb(hue: float, saturation: float, value: float) -> Float64:
    """RGB on the scale of ``value``; ``hue`` counts whole turns, ``saturation`` is 0 to 1."""
    return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value), np.float64)


def _smooth_noise(rng: Rng, size: tuple[int, int], cells: int) -> Float64:
    """(height, width) values between 0 and 1 that vary over about 1 / ``cells`` of the picture."""
    coarse = rng.random((cells, cells))
    fine = np.asarray(cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_CUBIC), np.float64)
    return fine.clip(0, 1)


def _ground(rng: Rng, size: tuple[int, int]) -> Float64:
    clouds = _smooth_noise(rng, size, int(rng.integers(4, 12)))[..., None]
    first, second = (_rgb(rng.random(), rng.uniform(0, 0.4), rng.uniform(40, 230)) for _ in range(2))
    mixed: Float64 = clouds * first + (1 - clouds) * second
    return mixed


def _light(rng: Rng, size: tuple[int, int]) -> Float64:
    return 0.75 + 0.5 * _smooth_noise(rng, size, 2)


# Forms: the inside, in own coordinates where the object's radius is 1.


def _disc(y: Float32, x: Float32) -> Mask:
    return y * y + x * x < 0.9


def _ring(y: Float32, x: Float32) -> Mask:
    square = y * y + x * x
    return (square < 1.1) & (square > 0.3)


def _triangle(y: Float32, x: Float32) -> Mask:
    half = np.float32(np.sqrt(3))
    return (y < 0.6) & (y - half * x > -1.2) & (y + half * x > -1.2)


# Textures: which of two colours, in own coordinates in pixels; ``period`` is in pixels, too.


def _stripes(y: Float32, x: Float32, period: float) -> Mask:
    return np.asarray(np.sin(x * np.float32(np.pi / period)) > 0)


def _dots(y: Float32, x: Float32, period: float) -> Mask:
    step = np.float32(np.pi / period)
    return np.asarray(np.sin(x * step) * np.sin(y * step) > np.float32(0.45))


def _checks(y: Float32, x: Float32, period: float) -> Mask:
    step = np.float32(np.pi / (2 * period))
    return np.asarray((np.sin(x * step) > 0) ^ (np.sin(y * step) > 0))


_KINDS: tuple[tuple[Callable[[Float32, Float32], Mask], Callable[[Float32, Float32, float], Mask]], ...] = (
    (_disc, _stripes),
    (_disc, _dots),
    (_triangle, _stripes),
    (_triangle, _dots),
    (_ring, _checks),
)
"""Form and texture of classes 1, 2, … in the order of the class table."""
