"""The proof that an exported file computes what its checkpoint does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segnext.backend import jt
from segnext.data.augmentation import normalize
from segnext.data.resize import resize_image
from segnext.errors import ExportError
from segnext.evaluation.inference import evaluation_mode
from segnext.evaluation.onnx_model import Engine, run_onnx
from segnext.export.settings import ExportSettings, InputKind, OutputKind, Storage
from segnext.kernels.resize import resize
from segnext.models.noise import Seed

__all__ = ["Agreement", "verify"]

_TOLERANCE = {Storage.float32: 1e-4, Storage.float16: 5e-3}  # of the largest logit
_SIZES = ((96, 128), (75, 101))  # (height, width), where the size is free


@dataclass(frozen=True)
class Agreement:
    """How near the file comes to Jittor on one image.

    Attributes:
        size: (height, width) in pixels.
        difference: the largest, of logits in parts of the largest logit, else of probabilities; None for labels.
        pixels: how many have another label.
        ties: how many of those are of classes that Jittor finds equally good, up to the tolerance.
    """

    size: tuple[int, int]
    difference: float | None
    pixels: int
    ties: int
    tolerance: float

    @property
    def holds(self) -> bool:
        return (self.difference is None or self.difference <= self.tolerance) and self.pixels == self.ties

    def __str__(self) -> str:
        height, width = self.size
        parts = [f"{height}×{width}:"]
        if self.difference is not None:
            parts.append(f"largest difference {self.difference:.1e} (at most {self.tolerance:.0e}),")
        parts.append(f"{self.pixels} of {height * width} labels differ")
        return " ".join(parts) + (f", {self.ties} of them ties" if self.pixels else "")


def verify(
    path: Path, network: Any, *, settings: ExportSettings, bases_seed: Seed, image: NDArray[np.uint8] | None = None
) -> list[Agreement]:
    """Runs the file by ONNX Runtime and the network by Jittor on one image of two sizes, or of the fixed one.

    Args:
        path: of the file.
        network: with the weights that were exported.
        settings: that it was exported with.
        bases_seed: of the stored bases, for ``SegNeXt.seed_noise``.
        image: (H,W,3) uint8 RGB, resized to the sizes of the test; a drawn one by default.

    Raises:
        ExportError: they differ by more than rounding does.
    """
    session = run_onnx(path, engine=Engine.onnxruntime, device="cpu")
    found = []
    with evaluation_mode(network), jt.no_grad():
        for picture in _pictures(image, [settings.size] if settings.size else _SIZES):
            images = normalize(picture)[None]
            network.seed_noise([bases_seed])
            expected = network(jt.array(images)).numpy()
            of_image = settings.input.kind is InputKind.image
            actual = session.run(picture)[None] if of_image else session.run(images)
            found.append(_compare(actual, expected, (picture.shape[0], picture.shape[1]), settings))
    if not all(agreement.holds for agreement in found):
        raise ExportError(
            f"{path} does not compute what the checkpoint does, keep it from use: "
            + "; ".join(str(agreement) for agreement in found)
        )
    return found


def _compare(
    actual: NDArray[Any], logits: NDArray[np.float32], size: tuple[int, int], settings: ExportSettings
) -> Agreement:
    tolerance = _TOLERANCE[settings.weights]
    largest = float(np.abs(logits).max())
    scores = _resized(logits, size)
    difference, labels = None, actual
    if settings.output.kind is OutputKind.logits:
        difference = float(np.abs(actual - logits).max()) / largest
        labels = _resized(actual, size).argmax(axis=1)
    elif settings.output.kind is OutputKind.probabilities:
        difference = float(np.abs(actual - jt.nn.softmax(jt.array(scores), dim=1).numpy()).max())
        labels = actual.argmax(axis=1)
    differ = labels != scores.argmax(axis=1)
    margin = scores.max(axis=1) - np.take_along_axis(scores, labels[:, None].astype(np.int64), axis=1)[:, 0]
    ties = int((differ & (margin <= 2 * tolerance * largest)).sum())
    return Agreement(size, difference, int(differ.sum()), ties, tolerance)


def _resized(logits: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    result: NDArray[np.float32] = resize(jt.array(logits), size).numpy()
    return result


def _pictures(image: NDArray[np.uint8] | None, sizes: Any) -> Iterator[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    for size in sizes:
        if image is None:  # coarse colours with noise: edges and surfaces
            coarse = resize_image(rng.integers(0, 256, (7, 9, 3)).astype(np.uint8), tuple(size))
            noise = rng.integers(-20, 21, coarse.shape)
            yield np.clip(coarse + noise, 0, 255).astype(np.uint8)
        else:
            yield resize_image(image, tuple(size))
