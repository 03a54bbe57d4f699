"""Colours for classes that bring none: far apart for normal and for colour-deficient eyes."""

from __future__ import annotations

import functools

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["distinct_palette"]

# Okabe and Ito, "Color Universal Design" (2008), without black: the first classes get these.
_OKABE_ITO = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)

# Machado, Oliveira and Fernandes, "A physiologically-based model for simulation of color vision deficiency"
# (2009), severity 1.0, applied to linear RGB.
_PROTANOPIA = (
    (0.152286, 1.052583, -0.204868),
    (0.114503, 0.786281, 0.099216),
    (-0.003882, -0.048116, 1.051998),
)
_DEUTERANOPIA = (
    (0.367322, 0.860646, -0.227968),
    (0.280085, 0.672501, 0.047413),
    (-0.011820, 0.042940, 0.968881),
)


def distinct_palette(count: int) -> npt.NDArray[np.uint8]:
    """Returns (count, 3) uint8 RGB colours, deterministic; a longer palette begins with the shorter one.

    Greedy farthest-point choice: the next colour is the one whose smallest CIELAB distance to all colours before
    it is largest, where a distance is the worst of normal, protanope and deuteranope vision.
    """
    return _greedy_palette()[:count].copy()


@functools.cache
def _greedy_palette() -> npt.NDArray[np.uint8]:
    levels = np.array([0, 40, 80, 120, 160, 200, 240], np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    candidates = np.concatenate([np.array(_OKABE_ITO, np.uint8), grid[1:]])  # without black
    views = _seen_colours(candidates)
    chosen: list[int] = []
    nearest = np.full(len(candidates), np.inf)
    for step in range(255):
        index = step if step < len(_OKABE_ITO) else int(nearest.argmax())
        chosen.append(index)
        distance = np.linalg.norm(views - views[:, index : index + 1], axis=-1).min(axis=0)
        nearest = np.minimum(nearest, distance)
    palette: npt.NDArray[np.uint8] = candidates[chosen]
    return palette


def _seen_colours(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """(N, 3) RGB -> (3 kinds of vision, N, 3) CIELAB."""
    scaled = rgb.astype(np.float64) / 255
    linear = np.where(scaled <= 0.04045, scaled / 12.92, ((scaled + 0.055) / 1.055) ** 2.4)
    seen = np.stack([linear @ np.array(m).T for m in (np.eye(3), _PROTANOPIA, _DEUTERANOPIA)])
    gamma = np.clip(seen, 0, 1)
    gamma = np.where(gamma <= 0.0031308, gamma * 12.92, 1.055 * gamma ** (1 / 2.4) - 0.055)
    lab: npt.NDArray[np.float64] = np.asarray(cv2.cvtColor(gamma.astype(np.float32), cv2.COLOR_RGB2Lab), np.float64)
    return lab
