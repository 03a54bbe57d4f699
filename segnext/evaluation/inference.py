"""From an image to class labels the way the official evaluation does it (mmsegmentation 0.24, as SegNeXt uses it).

Resize for the test, normalise, run the model on the whole input or on overlapping windows, resize the logits back,
and take the best class. Multi-scale testing does so for six sizes, each as it is and mirrored, and averages the
*probabilities* of the twelve passes.

The bases that SegNeXt's matrix factorisation starts from are random. Here each forward pass of an image gets a seed
computed from (seed, repeat, image name, pass, window), so a checkpoint has one result, whatever the order or the batch.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from segnext.data.augmentation import normalize
from segnext.data.resize import keep_ratio_size, resize_image, resize_to_multiple_size
from segnext.data.settings import SMALLEST_INPUT, Bases, InferenceSettings, Windows
from segnext.errors import out_of_memory_explained
from segnext.evaluation.arrays import arrays_of
from segnext.evaluation.dense import DenseLogits, strips
from segnext.kernels.labels import labels

__all__ = [
    "SegmentationModel",
    "SegmentationPredictor",
    "bases_seed",
    "evaluation_mode",
    "fixed_bases_seed",
    "input_size",
    "resize_for_test",
    "window_boxes",
    "window_places",
]

_LESS_MEMORY = (
    "take dataset.test.windows=slide (a part of the image at a time), lower dataset.test.window_batch, or on a GPU "
    "precision=bf16"
)


class SegmentationModel(Protocol):
    """What inference needs of a model; ``segnext.create_model`` returns one."""

    def __call__(self, images: Any) -> Any:
        """(B, 3, H, W) float32 normalised -> logits (B, C, ⌈H/8⌉, ⌈W/8⌉)."""
        ...

    def seed_noise(self, seeds: Sequence[int] | None) -> Any:
        """Seeds the random bases of the next forward passes, one seed per image of the batch; None: unseeded."""
        ...

    def eval(self) -> Any: ...

    def train(self) -> Any: ...

    def is_training(self) -> bool: ...


def input_size(settings: InferenceSettings, height: int, width: int, ratio: float) -> tuple[int, int]:
    """(height, width) at which an image of that size enters the network, at least 32 a side."""
    return _sizes(settings, height, width, ratio)[1]


def resize_for_test(image: NDArray[np.uint8], settings: InferenceSettings, ratio: float) -> NDArray[np.uint8]:
    """The image (H, W, 3) uint8 as it enters the network, resized twice as in the official test.

    First to fit ``scale``, in 8 bits, then this to a multiple of ``size_divisor``.
    """
    fitted, final = _sizes(settings, image.shape[0], image.shape[1], ratio)
    return resize_image(resize_image(image, fitted), final)


def _sizes(
    settings: InferenceSettings, height: int, width: int, ratio: float
) -> tuple[tuple[int, int], tuple[int, int]]:
    """(height, width) after the first and after the second resize."""
    if settings.scale is None:
        fitted = max(int(height * ratio + 0.5), 1), max(int(width * ratio + 0.5), 1)
    else:
        long, short = settings.scale
        fitted = keep_ratio_size(height, width, (int(long * ratio), int(short * ratio)))
    final = resize_to_multiple_size(*fitted, settings.size_divisor)
    return fitted, (max(final[0], SMALLEST_INPUT), max(final[1], SMALLEST_INPUT))


def window_places(settings: InferenceSettings, height: int, width: int) -> list[tuple[int, int, int, int]]:
    """(top, bottom, left, right) of every window over an input of that size, row by row."""
    if settings.windows == Windows.whole:
        return [(0, height, 0, width)]
    rows = window_boxes(height, window=settings.crop[0], stride=settings.stride[0])
    columns = window_boxes(width, window=settings.crop[1], stride=settings.stride[1])
    return [(top, bottom, left, right) for top, bottom in rows for left, right in columns]


def window_boxes(length: int, *, window: int, stride: int) -> list[tuple[int, int]]:
    """Half-open ranges of the windows along one axis: equally long, the last one pushed back inside.

    An axis shorter than the window is one range of its own length (nothing is padded).
    """
    count = max(length - window + stride - 1, 0) // stride + 1
    ends = [min(k * stride + window, length) for k in range(count)]
    return [(max(end - window, 0), end) for end in ends]


def bases_seed(seed: int, *, repeat: int, name: str, pass_number: int, window_number: int) -> int:
    """Seed in [0, 2**31) of the random bases of one forward pass of one image."""
    key = [seed, repeat, zlib.crc32(name.encode(errors="backslashreplace")), pass_number, window_number]
    return int(np.random.SeedSequence(key).generate_state(1)[0]) >> 1


def fixed_bases_seed(seed: int) -> int:
    """The seed of the bases of every pass with ``bases=fixed``, which are those of an image without a name."""
    return bases_seed(seed, repeat=0, name="", pass_number=0, window_number=0)


@contextmanager
def evaluation_mode(model: SegmentationModel) -> Iterator[None]:
    """Puts the whole model into evaluation mode and back: a part of it left there would stay frozen."""
    training = model.is_training()
    model.eval()
    try:
        yield
    finally:
        model.seed_noise(None)  # the seeds of the last images are nobody else's
        if training:
            model.train()


@dataclass(frozen=True)
class _Crop:
    """One input of the model: where its pixels come from, where its logits go, and its seed."""

    pixels: NDArray[np.uint8]
    target: DenseLogits
    top: int
    left: int
    seed: int


class SegmentationPredictor:
    """Predicts labels of images of any size. The model must be in evaluation mode (see ``evaluation_mode``).

    Args:
        model: see ``SegmentationModel``; the weights that it has now are used, changes come too late.
        settings: how images are shown to the model.
        seed: a non-negative number that chooses the random bases together with the image's name.
        repeat: number of the repetition: another one means other bases.
        strip_floats: scores held at full resolution at a time, 2**22 on a CPU and 2**26 on a GPU if that is not given;
            labels need none where it is not given, of Jittor's logits.
    """

    def __init__(
        self,
        model: SegmentationModel,
        settings: InferenceSettings | None = None,
        *,
        seed: int = 0,
        repeat: int = 0,
        strip_floats: int | None = None,
    ) -> None:
        self._arrays = arrays_of(model)
        self.model = self._arrays.for_inference(model)
        self.settings = settings or InferenceSettings()
        self.seed = seed
        self.repeat = repeat
        self.strip_floats = strip_floats

    def predict(self, image: NDArray[np.uint8], name: str = "") -> NDArray[np.int32]:
        """Labels (H, W) int32 of an (H, W, 3) uint8 RGB image; ``name`` seeds the bases."""
        return self.predict_batch([image], [name])[0]

    @out_of_memory_explained(_LESS_MEMORY)
    def predict_batch(self, images: Sequence[NDArray[np.uint8]], names: Sequence[str]) -> list[NDArray[np.int32]]:
        """Like ``predict`` for several images, which share the passes through the model where sizes agree."""
        with self._arrays.no_grad():
            passes = self._passes(images, names)
            return [self._labels(own, image) for own, image in zip(passes, images, strict=True)]

    @out_of_memory_explained(_LESS_MEMORY)
    def predict_with_confidence(
        self, image: NDArray[np.uint8], name: str = ""
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Labels (H, W) int32 of an image, as ``predict`` gives them, and the probability (H, W) of each, 0 to 1."""
        labels, confidence = [], []
        with self._arrays.no_grad():
            (passes,) = self._passes([image], [name])
            for strip in self._strips(passes, image):
                scores = self._arrays.numpy(strip)
                best = scores.max(axis=0)
                labels.append(scores.argmax(axis=0).astype(np.int32))
                # One pass gives logits; several give the mean of their probabilities.
                confidence.append(best if len(passes) > 1 else 1 / np.exp(scores - best).sum(axis=0))
        return np.concatenate(labels), np.concatenate(confidence)

    @out_of_memory_explained(_LESS_MEMORY)
    def probabilities(self, image: NDArray[np.uint8], name: str = "") -> NDArray[np.float32]:
        """Class probabilities (C, H, W) float32 of an (H, W, 3) uint8 RGB image. Not for huge images."""
        with self._arrays.no_grad():
            (passes,) = self._passes([image], [name])
            strips_CHW = list(self._strips(passes, image, probabilities=True))
            return np.concatenate([self._arrays.numpy(strip) for strip in strips_CHW], axis=1)

    def takes_rows(self, size: tuple[int, int]) -> bool:
        """Whether an image of ``size`` = (height, width) is shown in windows at that size, once."""
        settings = self.settings
        return settings.windows == Windows.slide and not settings.tta and input_size(settings, *size, 1.0) == size

    @out_of_memory_explained(_LESS_MEMORY)
    def predict_by_rows(
        self,
        size: tuple[int, int],
        read: Callable[[int, int], NDArray[np.uint8]],
        write: Callable[[int, NDArray[np.int32]], None],
        name: str = "",
    ) -> None:
        """Like ``predict`` for an image that ``takes_rows``, in memory that grows with its width alone.

        Args:
            size: (height, width) of the image in pixels.
            read: the image's rows from a first to before a last one, (rows, W, 3) uint8 RGB.
            write: takes the number of a row and the labels (rows, W) int32 from it on, from top to bottom.
            name: seeds the bases.
        """
        settings, (height, width) = self.settings, size
        rows = window_boxes(height, window=settings.crop[0], stride=settings.stride[0])
        columns = window_boxes(width, window=settings.crop[1], stride=settings.stride[1])
        dense = DenseLogits(height, width, (rows[0][1], columns[0][1]), arrays=self._arrays)
        ends = [*(top for top, _ in rows[1:]), height]  # the windows below don't reach above these rows
        with self._arrays.no_grad():
            for number, ((top, bottom), end) in enumerate(zip(rows, ends, strict=True)):
                band = read(top, bottom)
                crops = [
                    _Crop(band[:, left:right], dense, top, left, self._seed(name, 0, number * len(columns) + column))
                    for column, (left, right) in enumerate(columns)
                ]
                for first in range(0, len(crops), settings.window_batch):
                    self._forward(crops[first : first + settings.window_batch])
                limit = self.strip_floats or self._arrays.strip_floats
                classes = dense.parts[0][2].shape[0]
                for start, stop in strips(end - top, max(1, limit // (width * classes))):
                    write(top + start, self._arrays.best_class(dense.rows(top + start, top + stop)))
                dense.parts = [part for part in dense.parts if part[0] + dense.window[0] > end]

    def _seed(self, name: str, pass_number: int, window_number: int) -> int:
        if self.settings.bases == Bases.fixed:
            return fixed_bases_seed(self.seed)
        return bases_seed(
            self.seed, repeat=self.repeat, name=name, pass_number=pass_number, window_number=window_number
        )

    def _passes(self, images: Sequence[NDArray[np.uint8]], names: Sequence[str]) -> list[list[DenseLogits]]:
        """The logits of every pass of every image."""
        settings = self.settings
        result: list[list[DenseLogits]] = [[] for _ in images]
        waiting: dict[tuple[int, ...], list[_Crop]] = defaultdict(list)
        for pass_number, (ratio, flipped) in enumerate(settings.passes):
            for image, name, passes in zip(images, names, result, strict=True):
                view = resize_for_test(image, settings, ratio)
                height, width = view.shape[:2]
                view = view[:, ::-1] if flipped else view
                boxes = window_places(settings, height, width)
                top, bottom, left, right = boxes[0]
                target = DenseLogits(height, width, (bottom - top, right - left), flipped, arrays=self._arrays)
                passes.append(target)
                for number, (top, bottom, left, right) in enumerate(boxes):
                    pixels = view[top:bottom, left:right]
                    queue = waiting[pixels.shape]
                    queue.append(_Crop(pixels, target, top, left, self._seed(name, pass_number, number)))
                    if len(queue) == settings.window_batch:
                        self._forward(queue)
                        queue.clear()
        for queue in waiting.values():
            if queue:
                self._forward(queue)
        return result

    def _forward(self, crops: Sequence[_Crop]) -> None:
        """Runs equally large crops through the model and adds their logits to those of their image."""
        inputs = np.stack([normalize(np.ascontiguousarray(crop.pixels)) for crop in crops])
        self.model.seed_noise([crop.seed for crop in crops])
        for crop, logits in zip(crops, self._arrays.forward(self.model, inputs), strict=True):
            crop.target.parts.append((crop.top, crop.left, logits))

    def _labels(self, passes: Sequence[DenseLogits], image: NDArray[np.uint8]) -> NDArray[np.int32]:
        windows = sum(len(dense.parts) for dense in passes)
        if self.strip_floats is None and self._arrays.fuses_labels(windows):
            return labels([dense.view() for dense in passes], (image.shape[0], image.shape[1]))
        return np.concatenate([self._arrays.best_class(strip) for strip in self._strips(passes, image)])

    def _strips(
        self, passes: Sequence[DenseLogits], image: NDArray[np.uint8], *, probabilities: bool = False
    ) -> Iterator[Any]:
        """Scores (C, rows, W) of the image from top to bottom: logits, or probabilities where several are averaged."""
        height, width = image.shape[:2]
        # What one row of the result holds at full resolution, at the larger of the two sizes it is made at.
        row = max(max(width, dense.width) * max(1, dense.height / height) for dense in passes)
        classes = passes[0].parts[0][2].shape[0]
        limit = self.strip_floats or self._arrays.strip_floats
        for start, stop in strips(height, max(1, int(limit / (row * classes)))):
            if len(passes) == 1 and not probabilities:
                yield passes[0].strip((height, width), start, stop)
                continue
            total: Any = 0
            for dense in passes:
                scores = self._arrays.softmax(dense.strip((height, width), start, stop))
                total = self._arrays.computed(total + scores)  # one pass at a time
            yield total / len(passes)
