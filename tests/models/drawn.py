"""Weights, bases, images and labels that are drawn from names and seeds, by the rule of the golden figures.

So a figure computed elsewhere needs no file of weights: whoever knows the rule draws the same ones.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Array = NDArray[np.float32]


def drawn_tensor(name: str, shape: tuple[int, ...]) -> Array:
    """The tensor with the official ``name``."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("running_var"):
        values = rng.uniform(0.5, 1.5, shape)
    elif name.endswith(("running_mean", "bias")):
        values = 0.1 * rng.standard_normal(shape)
    elif "layer_scale" in name:
        values = rng.uniform(0.01, 0.05, shape)
    elif len(shape) == 1:
        values = rng.uniform(0.5, 1.5, shape)
    else:
        values = rng.standard_normal(shape) / math.sqrt(math.prod(shape[1:]))
    return values.astype(np.float32)


def drawn_tensors(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    return {name: drawn_tensor(name, shape) for name, shape in shapes.items()}


def drawn_bases(batch: int, dim: int, rank: int) -> Array:
    """NMF bases, the same in every forward pass."""
    bases = np.random.default_rng(7).random((batch, dim, rank)).astype(np.float32)
    return bases / np.linalg.norm(bases, axis=1, keepdims=True)


def drawn_images(shape: tuple[int, ...], seed: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def drawn_labels(shape: tuple[int, ...], classes: int, seed: int) -> NDArray[np.int32]:
    """(B,H,W) for images of ``shape`` (B,3,H,W): squares of 8×8 pixels, a tenth of all pixels ignored."""
    batch, _, height, width = shape
    rng = np.random.default_rng(seed + 1000)
    labels = rng.integers(0, classes, (batch, height // 8, width // 8)).repeat(8, axis=1).repeat(8, axis=2)
    labels[rng.random(labels.shape) < 0.1] = 255
    return labels.astype(np.int32)


def prepare(model: Any) -> dict[str, Array]:
    """Gives ``model`` drawn weights and bases; returns the weights."""
    variables = model.tensors()
    tensors = drawn_tensors({name: tuple(var.shape) for name, var in variables.items()})
    for name, var in variables.items():
        var.assign(tensors[name])
    model.decode_head.hamburger.ham.draw_bases = drawn_bases
    return tensors


def golden_folder() -> Path:
    """The folder of the golden figures; the calling test is skipped where it is missing."""
    shared = Path(os.environ.get("SEGNEXT_SHARED") or Path(__file__).resolve().parents[3] / "shared")
    if not (shared / "golden").is_dir():
        pytest.skip(f"golden figures are not in {shared} (SEGNEXT_SHARED or ../shared)")
    return shared / "golden"


def golden(name: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The arrays and the description of one golden file."""
    with np.load(golden_folder() / f"{name}.npz") as file:
        arrays = dict(file)
    return arrays, json.loads(str(arrays.pop("meta")))
