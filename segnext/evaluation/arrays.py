"""The few operations on arrays that inference needs beside the model: by Jittor, or by NumPy and OpenCV without it.

A model names its own in the attribute ``arrays``; one without it is Jittor's. Legend: C classes, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from segnext import backend
from segnext.backend import jt
from segnext.kernels.labels import MOST_WINDOWS
from segnext.kernels.sampling import Taps, best_channel, bilinear_taps, sample
from segnext.models.folding import folded
from segnext.models.segnext import SegNeXt

__all__ = ["Arrays", "JittorArrays", "NumpyArrays", "arrays_of"]

_STRIP_FLOATS = {"": 2**22, "cpu": 2**22, "cuda": 2**26}  # 16 and 256 MiB


class Arrays(Protocol):
    """Scores are (C, H, W) arrays of its own kind."""

    @property
    def strip_floats(self) -> int:
        """How many scores to hold at full resolution at a time."""
        ...

    def fuses_labels(self, windows: int) -> bool:
        """Whether ``kernels.labels`` takes the logits of so many, which needs no scores at full resolution."""
        ...

    def no_grad(self) -> Any:
        """A context in which nothing is kept for gradients."""
        ...

    def for_inference(self, model: Any) -> Any:
        """``model`` as it is fastest with the weights that it has now, in evaluation mode."""
        ...

    def forward(self, model: Any, images: NDArray[np.float32]) -> Sequence[Any]:
        """The logits of each of ``images`` (B, 3, H, W), computed now."""
        ...

    def zeros(self, shape: tuple[int, ...]) -> Any: ...

    def constant(self, values: NDArray[np.float32]) -> Any: ...

    def sample(self, x: Any, rows: Taps, width: int, *, flipped: bool = False) -> Any:
        """``x`` interpolated along H where ``rows`` says, along W to ``width``, and mirrored if ``flipped``."""
        ...

    def softmax(self, x: Any) -> Any:
        """Over the classes."""
        ...

    def computed(self, x: Any) -> Any:
        """``x``, which is computed now."""
        ...

    def best_class(self, x: Any) -> NDArray[np.int32]:
        """(H, W): the first of the classes with the highest score."""
        ...

    def numpy(self, x: Any) -> NDArray[np.float32]: ...

    def release_memory(self) -> None:
        """Gives freed memory back to the system, before images of another size come."""
        ...


class JittorArrays:
    """On the device that Jittor runs on."""

    @property
    def strip_floats(self) -> int:
        return _STRIP_FLOATS[backend.device_name()]

    def fuses_labels(self, windows: int) -> bool:
        return not jt.flags.use_cuda or windows <= MOST_WINDOWS

    def no_grad(self) -> Any:
        return jt.no_grad()

    def for_inference(self, model: Any) -> Any:
        # On CUDA a norm is taken together with the branch that follows, which saves more.
        return folded(model) if isinstance(model, SegNeXt) and not jt.flags.use_cuda else model

    def forward(self, model: Any, images: NDArray[np.float32]) -> Sequence[Any]:
        logits = self.computed(model(jt.array(images)))  # so that the activations are freed before the next pass
        return [logits[number] for number in range(len(images))]

    def zeros(self, shape: tuple[int, ...]) -> Any:
        return jt.zeros(shape)

    def constant(self, values: NDArray[np.float32]) -> Any:
        return jt.array(np.ascontiguousarray(values))

    def sample(self, x: Any, rows: Taps, width: int, *, flipped: bool = False) -> Any:
        columns = bilinear_taps(x.shape[2], width)
        return sample(x, rows, columns.mirrored() if flipped else columns)

    def softmax(self, x: Any) -> Any:
        return jt.nn.softmax(x, dim=0)

    def computed(self, x: Any) -> Any:
        x.sync()
        return x

    def best_class(self, x: Any) -> NDArray[np.int32]:
        result: NDArray[np.int32] = best_channel(x).numpy()
        return result

    def numpy(self, x: Any) -> NDArray[np.float32]:
        result: NDArray[np.float32] = x.numpy()
        return result

    def release_memory(self) -> None:
        backend.release_memory()


class NumpyArrays:
    """On the CPU, without Jittor."""

    strip_floats = _STRIP_FLOATS["cpu"]

    def fuses_labels(self, windows: int) -> bool:
        return False

    @contextmanager
    def no_grad(self) -> Iterator[None]:
        yield

    def for_inference(self, model: Any) -> Any:
        return model

    def forward(self, model: Any, images: NDArray[np.float32]) -> Sequence[Any]:
        logits: Sequence[Any] = model(images)
        return logits

    def zeros(self, shape: tuple[int, ...]) -> Any:
        return np.zeros(shape, np.float32)

    def constant(self, values: NDArray[np.float32]) -> Any:
        return values

    def sample(self, x: Any, rows: Taps, width: int, *, flipped: bool = False) -> Any:
        weight = rows.weight[None, :, None]
        x = x[:, rows.first] * (1 - weight) + x[:, rows.second] * weight
        if x.shape[2] != width:  # by OpenCV, many times as fast as gathering: all rows of all classes are one image
            plane = x.reshape(-1, x.shape[2])
            plane = cv2.resize(plane, (width, len(plane)), interpolation=cv2.INTER_LINEAR)
            x = plane.reshape(*x.shape[:2], width)
        return x[:, :, ::-1] if flipped else x

    def softmax(self, x: Any) -> Any:
        powers = np.exp(x - x.max(axis=0))
        return powers / powers.sum(axis=0)

    def computed(self, x: Any) -> Any:
        return x

    def best_class(self, x: Any) -> NDArray[np.int32]:
        """Class by class: np.argmax over the first axis would copy the scores in another order."""
        best, labels = x[0].copy(), np.zeros(x.shape[1:], np.int32)
        for number in range(1, len(x)):
            np.copyto(labels, number, where=x[number] > best)
            np.maximum(best, x[number], out=best)
        return labels

    def numpy(self, x: Any) -> NDArray[np.float32]:
        result: NDArray[np.float32] = x
        return result

    def release_memory(self) -> None:
        """Nothing to do: NumPy's arrays are given back when they end."""


def arrays_of(model: Any) -> Arrays:
    """The operations on what ``model`` returns."""
    arrays: Arrays = getattr(model, "arrays", None) or JittorArrays()
    return arrays
