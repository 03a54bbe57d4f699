"""The layers that both backbone and decode head are made of, with the official numerics.

Shapes: B images, C channels, H×W pixels. Parameters are float32; ``compute_type``, which ``create_model`` sets, is the
type of what convolutions and the norms before them return. All casts are here and where a module says why.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from segnext.backend import Module, Var, jt
from segnext.distributed.all_reduce import all_reduce_mean
from segnext.kernels.cast import cast, cast_all
from segnext.kernels.convolution import conv
from segnext.kernels.depthwise import depthwise_conv
from segnext.kernels.norm import Normalised, Running, batch_norm, fixed_norm, group_norm, layer_norm
from segnext.models.noise import Noise

__all__ = [
    "BatchNorm",
    "Conv",
    "DepthwiseConv",
    "Dropout2d",
    "GroupNorm",
    "LayerNorm",
    "cast_weights",
    "filled",
    "pooled_statistics",
]


def filled(shape: int | tuple[int, ...], value: float) -> Var:
    """A float32 parameter of one value; from NumPy, since every constant of Jittor's is an operator to compile."""
    return jt.array(np.full(shape, value, np.float32))


class Conv(Module):
    """A convolution of all channels; ``create_model`` draws its weights."""

    compute_type = "float32"

    def __init__(
        self, channels_in: int, channels: int, kernel_size: int, *, stride: int = 1, padding: int = 0, bias: bool = True
    ) -> None:
        self.weight = filled((channels, channels_in, kernel_size, kernel_size), 0)
        self.bias = filled(channels, 0) if bias else None
        self.stride = stride
        self.padding = padding
        self._narrow: tuple[Var] | None = None  # the weight in compute_type, within ``cast_weights``

    @property
    def narrow_weight(self) -> Var:
        """The weight in ``compute_type``."""
        return cast(self.weight, self.compute_type) if self._narrow is None else self._narrow[0]

    def parameters_to_compute_with(self) -> tuple[Var, Var]:
        """The weight in the type that this computes in, and the bias, for operators that do more than this layer."""
        assert self.bias is not None
        return self.narrow_weight, self.bias

    def execute(self, x: Var) -> Var:
        dtype = self.compute_type
        bias = None if self.bias is None else cast(self.bias, dtype)
        return conv(cast(x, dtype), self.narrow_weight, bias, stride=self.stride, padding=self.padding)


@contextmanager
def cast_weights(layers: Sequence[Conv]) -> Iterator[None]:
    """Within it the weights of ``layers``, all of one ``compute_type``, are cast together: few operators for all."""
    for layer, weight in zip(layers, cast_all([each.weight for each in layers], layers[0].compute_type), strict=True):
        layer._narrow = (weight,)
    try:
        yield
    finally:
        for layer in layers:
            layer._narrow = None


class BatchNorm(Module):
    """Batch normalisation of (B,C,H,W) with an unbiased running variance, as PyTorch's; over the images of all ranks.

    Jittor's own keeps the biased one and computes E[x²] − E[x]², which cancels when the mean is large. Every rank has
    equally many pixels.
    """

    compute_type = "float32"
    tracking = True  # of the running statistics, in training mode
    pooling = False  # of the statistics of several passes, until ``move_statistics`` is called

    def __init__(self, channels: int, momentum: float = 0.1) -> None:
        self._passes: list[tuple[Var, Var, int]] = []
        self.momentum = momentum
        self.weight = filled(channels, 1)
        self.bias = filled(channels, 0)
        self.running_mean = filled(channels, 0).stop_grad()
        self.running_var = filled(channels, 1).stop_grad()

    def execute(self, x: Var) -> Var:
        return self._normalised(x).y

    def beside(self, x: Var) -> tuple[Var, Var]:
        """The normalised x, and x itself for a residual connection: the norm's operator adds up their gradients."""
        result = self._normalised(x)
        return result.y, result.x

    def _normalised(self, x: Var) -> Normalised:
        dtype = self.compute_type
        if not self.is_training():
            return fixed_norm(x, self.weight, self.bias, self.running_mean, self.running_var, dtype=dtype)
        if self.tracking and not self.pooling and jt.world_size == 1:
            return batch_norm(x, self.weight, self.bias, dtype=dtype, running=self._running)
        average = all_reduce_mean if jt.world_size > 1 else None
        result = batch_norm(x, self.weight, self.bias, dtype=dtype, average=average)
        if self.tracking:
            statistics = result.mean.detach(), result.variance.detach()
            self._passes.append((*statistics, jt.world_size * x.numel() // x.shape[1]))
            if not self.pooling:
                self.move_statistics()
        return result

    @property
    def _running(self) -> Running:
        return Running(self.running_mean, self.running_var, self.momentum)

    def move_statistics(self) -> None:
        """Moves the running statistics once, by the images of all passes since the last time as if of one batch."""
        passes, self._passes = self._passes, []
        if not passes:  # evaluation mode
            return
        (mean, variance, _), count = passes[0], sum(count for *_, count in passes)
        if len(passes) > 1:
            mean = sum(own * (share / count) for own, _, share in passes)
            variance = sum((own + (each - mean) * (each - mean)) * (share / count) for each, own, share in passes)
        self._running.move((mean, variance), count)


@contextmanager
def pooled_statistics(module: Any) -> Iterator[None]:
    """Within it ``module`` sees a batch in several passes: at the end its running statistics move once, as by all."""
    norms = [each for each in module.modules() if isinstance(each, BatchNorm)]
    for norm in norms:
        norm.pooling = True
    try:
        yield
        for norm in norms:
            norm.move_statistics()
    finally:
        for norm in norms:
            norm.pooling = False


class LayerNorm(Module):
    """Layer normalisation of (B,C,H,W) over the channels of each pixel; always float32."""

    def __init__(self, channels: int) -> None:
        self.weight = filled(channels, 1)
        self.bias = filled(channels, 0)

    def execute(self, x: Var) -> Var:
        return layer_norm(x, self.weight, self.bias)


class GroupNorm(Module):
    """Group normalisation of (B,C,H,W) in ``groups`` groups of channels."""

    compute_type = "float32"

    def __init__(self, channels: int, groups: int = 32) -> None:
        self.groups = groups
        self.weight = filled(channels, 1)
        self.bias = filled(channels, 0)

    def execute(self, x: Var) -> Var:
        return group_norm(x, self.weight, self.bias, groups=self.groups, dtype=self.compute_type)


class DepthwiseConv(Module):
    """One filter per channel, stride 1, "same" padding, with bias."""

    compute_type = "float32"

    def __init__(self, channels: int, kernel_size: tuple[int, int]) -> None:
        self.weight = filled((channels, 1, *kernel_size), 0)
        self.bias = filled(channels, 0)

    def execute(self, x: Var) -> Var:
        return depthwise_conv(cast(x, self.compute_type), self.weight, self.bias)


class Dropout2d(Module):
    """Drops whole channels of an image with probability ``rate`` in training mode, scaling the others by 1/(1−rate)."""

    def __init__(self, rate: float, noise: Noise) -> None:
        self.rate = rate
        self._noise = noise

    def execute(self, x: Var) -> Var:
        if self.rate == 0 or not self.is_training():
            return x
        scale = (self._noise.uniform(x.shape[1], 1, 1) >= self.rate) / (1 - self.rate)
        return cast(cast(x, "float32") * jt.array(scale.astype(np.float32)), x.dtype)
