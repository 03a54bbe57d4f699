"""Cheap stand-ins for the model and the data set, so that evaluation is tested without compiling a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segnext import backend
from segnext.data.classes import ClassTable
from segnext.data.datasets import Sample
from segnext.evaluation.arrays import NumpyArrays


class FakeModel:
    """Logits that depend on the content of every 8x8 cell, on its place, and on the seeded "bases".

    ``noise`` scales a random offset per class drawn from the seed of each image, as the bases of the real model
    change its logits.
    """

    def __init__(self, classes: int, *, noise: float = 0.0) -> None:
        self.classes = classes
        self.noise = noise
        self.weights = np.random.default_rng(0).standard_normal((classes, 4)).astype(np.float32)
        self.input_shapes: list[tuple[int, ...]] = []
        self.seeds: list[list[int]] = []
        self.training = True

    def seed_noise(self, seeds: Sequence[int] | None) -> None:
        if seeds is not None:
            self.seeds.append(list(seeds))

    def logits(self, images: NDArray[np.float32], seeds: Sequence[int]) -> NDArray[np.float32]:
        batch, _, height, width = images.shape
        padded = np.pad(images, ((0, 0), (0, 0), (0, -height % 8), (0, -width % 8)), mode="edge")
        cells = padded.reshape(batch, 3, padded.shape[2] // 8, 8, padded.shape[3] // 8, 8).mean((3, 5))
        place = np.broadcast_to(np.linspace(-1, 1, cells.shape[3], dtype=np.float32), cells[:, :1].shape)
        features = np.concatenate([cells, place], axis=1)
        out = np.einsum("kc,bchw->bkhw", self.weights, features).astype(np.float32)
        offsets = np.stack([np.random.default_rng(seed).standard_normal(self.classes) for seed in seeds])
        return out + np.float32(self.noise) * offsets[:, :, None, None].astype(np.float32)

    def __call__(self, images: Any) -> Any:
        self.input_shapes.append(tuple(images.shape))
        assert len(self.seeds) == len(self.input_shapes), "seed_noise must be called before every forward pass"
        assert len(self.seeds[-1]) == images.shape[0]
        return backend.start().array(self.logits(images.numpy(), self.seeds[-1]))

    def eval(self) -> None:
        self.training = False

    def train(self) -> None:
        self.training = True

    def is_training(self) -> bool:
        return self.training


class NumpyFakeModel(FakeModel):
    """The same without Jittor."""

    arrays = NumpyArrays()

    def __call__(self, images: Any) -> Any:
        return self.logits(images, self.seeds[-1])


class FakeDataset:
    """Random images of a few sizes with blocky random labels, some ignored, some outside the classes."""

    def __init__(
        self, length: int, *, classes: int = 5, sizes: Sequence[tuple[int, int]] = ((40, 56), (48, 40))
    ) -> None:
        palette = np.arange(3 * classes, dtype=np.uint8).reshape(classes, 3)
        self.classes = ClassTable("fake", tuple(f"class {k}" for k in range(classes)), palette)
        self.length = length
        self.sizes = sizes

    def __len__(self) -> int:
        return self.length

    def name(self, index: int) -> str:
        return f"part/image{index:03d}"

    def read(self, index: int) -> Sample:
        rng = np.random.default_rng([7, index])
        height, width = self.sizes[index % len(self.sizes)]
        image = np.kron(rng.integers(0, 256, (height // 8, width // 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
        label = np.kron(rng.integers(0, len(self.classes) + 1, (height // 8, width // 8)), np.ones((8, 8)))
        label[rng.random(label.shape) < 0.1] = 255
        return Sample(image, label.astype(np.uint8))
