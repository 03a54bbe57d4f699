"""An evaluation by the steps of mmsegmentation 0.24, in OpenCV and PyTorch: the rival of ``what=evaluate``.

Never imported beside Jittor. Left out is the softmax of a single pass, which changes no label.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from segnext.data.resize import keep_ratio_size, resize_image, resize_to_multiple_size
from segnext.data.settings import InferenceSettings, Windows

__all__ = ["Evaluation"]

_IGNORED = 255


class Evaluation:
    """Called, it evaluates all files and returns the labelled pixels of every class.

    Args:
        logits: maps normalised images (B,3,H,W) to logits of that size.
        num_classes: those of the logits.
        files: (image, label map) of every image.
        reduce_zero_label: label maps store 0 for "other" and k + 1 for class k.
        settings: how images are shown to the network, fields of ``InferenceSettings``.
        mean, std: of the pixels, by which they are normalised.
        workers: processes that read, resize and normalise images ahead.
    """

    def __init__(
        self,
        logits: Callable[[Tensor], Tensor],
        *,
        device: str,
        num_classes: int,
        files: Sequence[tuple[str, str]],
        reduce_zero_label: bool,
        settings: dict[str, Any],
        mean: Sequence[float],
        std: Sequence[float],
        workers: int,
    ) -> None:
        cv2.setNumThreads(0)  # before the fork, as mmcv does: the pool of threads would not be there in the workers
        self._logits, self._device, self._num_classes = logits, device, num_classes
        self._labels, self._reduce_zero_label = [label for _, label in files], reduce_zero_label
        self._settings = InferenceSettings(**settings)
        images = _Images([image for image, _ in files], self._settings, np.array([mean]), np.array([std]))
        self._loader: DataLoader[Any] = DataLoader(images, batch_size=None, num_workers=workers)

    def __call__(self) -> list[int]:
        total = torch.zeros(3, self._num_classes, dtype=torch.float64)
        with torch.no_grad():
            for path, (height, width, inputs) in zip(self._labels, self._loader, strict=True):
                predicted = self._best_class((height, width), inputs).cpu()
                total += self._areas(predicted, torch.from_numpy(self._read_label(path)))
        return [int(pixels) for pixels in total[2]]

    def _best_class(self, size: tuple[int, int], inputs: Sequence[Tensor]) -> Tensor:
        """(H,W) of an image of that size."""
        passes, total = self._settings.passes, torch.zeros(())
        for (_, flipped), image in zip(passes, inputs, strict=True):
            scores = self._dense(image[None].to(self._device))
            if scores.shape[2:] != size:
                scores = F.interpolate(scores, size=size, mode="bilinear", align_corners=False)
            if len(passes) > 1:
                scores = F.softmax(scores, dim=1)
                total = total.to(scores) + (scores.flip(3) if flipped else scores)
            else:
                total = scores
        return total.argmax(1)[0]

    def _dense(self, image: Tensor) -> Tensor:
        """Logits of the whole image, windows averaged where they overlap."""
        if self._settings.windows == Windows.whole:
            return self._logits(image)
        height, width = image.shape[2:]
        total = image.new_zeros(1, self._num_classes, height, width)
        count = image.new_zeros(1, 1, height, width)
        (window_height, window_width), (step_down, step_right) = self._settings.crop, self._settings.stride
        for row in range(max(height - window_height + step_down - 1, 0) // step_down + 1):
            for column in range(max(width - window_width + step_right - 1, 0) // step_right + 1):
                bottom = min(row * step_down + window_height, height)
                right = min(column * step_right + window_width, width)
                top, left = max(bottom - window_height, 0), max(right - window_width, 0)
                part = self._logits(image[:, :, top:bottom, left:right])
                total += F.pad(part, (left, width - right, top, height - bottom))
                count[:, :, top:bottom, left:right] += 1
        return total / count

    def _read_label(self, path: str) -> NDArray[np.uint8]:
        label = np.array(Image.open(path))
        if self._reduce_zero_label:
            label[label == 0] = _IGNORED
            label -= 1
            label[label == _IGNORED - 1] = _IGNORED
        return label

    def _areas(self, predicted: Tensor, label: Tensor) -> Tensor:
        """(3,K): pixels of every class that are right, predicted, labelled."""
        labelled = label != _IGNORED
        predicted, label = predicted[labelled], label[labelled]
        counted = predicted[predicted == label], predicted, label
        last = self._num_classes - 1
        return torch.stack([torch.histc(each.float(), bins=last + 1, min=0, max=last) for each in counted])


class _Images(Dataset[Any]):
    """By index: height and width of an image, and what the network gets of it, (3,h,w) for every pass."""

    def __init__(
        self, paths: Sequence[str], settings: InferenceSettings, mean: NDArray[np.float64], std: NDArray[np.float64]
    ) -> None:
        self._paths, self._settings, self._mean, self._std = paths, settings, mean, std

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[int, int, list[Tensor]]:
        image = cv2.imread(self._paths[index], cv2.IMREAD_COLOR)
        inputs = []
        for ratio, flipped in self._settings.passes:
            view = self._resized(image, ratio)
            inputs.append(self._normalised(cv2.flip(view, 1) if flipped else view))
        return (*image.shape[:2], inputs)

    def _resized(self, image: NDArray[np.uint8], ratio: float) -> NDArray[np.uint8]:
        height, width = image.shape[:2]
        long, short = self._settings.scale or (max(height, width), min(height, width))
        size = keep_ratio_size(height, width, (int(long * ratio), int(short * ratio)))
        return resize_image(resize_image(image, size), resize_to_multiple_size(*size, self._settings.size_divisor))

    def _normalised(self, image: NDArray[np.uint8]) -> Tensor:
        """(3,H,W) of a BGR image, as mmcv's imnormalize gives it."""
        pixels = image.astype(np.float32)
        cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, pixels)
        cv2.subtract(pixels, self._mean, pixels)
        cv2.multiply(pixels, 1 / self._std, pixels)
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
