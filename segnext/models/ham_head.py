"""The decode head: Hamburger with non-negative matrix factorisation (Geng et al., "Is Attention Better Than Matrix
Decomposition?", ICLR 2021) in its light form of SegNeXt (section 3.2).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segnext.backend import Module, Var, jt
from segnext.errors import ConfigError
from segnext.kernels.cast import cast
from segnext.kernels.elementwise import add, relu
from segnext.kernels.nmf import factorise
from segnext.kernels.resize import resize
from segnext.models.layers import Conv, Dropout2d, GroupNorm
from segnext.models.noise import Noise

__all__ = ["NMF2D", "LightHamHead"]


TRAINING_STEPS = 6
EVALUATION_STEPS = 7
GRADIENTS = ("full", "one_step")


class LightHamHead(Module):
    """Joins the last three stages at stride 8 and classifies each pixel: logits (B, num_classes, ⌈H/8⌉, ⌈W/8⌉)."""

    def __init__(
        self,
        channels_in: tuple[int, ...],
        channels: int,
        *,
        num_classes: int,
        nmf_rank: int,
        nmf_gradient: str,
        dropout: float,
        noise: Noise,
    ) -> None:
        self.squeeze = ConvNorm(sum(channels_in), channels)
        self.hamburger = Hamburger(channels, rank=nmf_rank, gradient=nmf_gradient, noise=noise)
        self.align = ConvNorm(channels, channels)
        self.dropout = Dropout2d(dropout, noise)
        self.conv_seg = Conv(channels, num_classes, 1)

    def execute(self, stages: list[Var]) -> Var:
        size = tuple(stages[0].shape[2:])
        x = jt.concat([resize(stage, size) for stage in stages], dim=1)
        x = relu(self.squeeze(x))
        x = relu(self.align(self.hamburger(x)))
        return self.conv_seg(self.dropout(x))


class Hamburger(Module):
    """A low-rank reconstruction between two 1×1 convolutions, added to its input."""

    def __init__(self, channels: int, *, rank: int, gradient: str, noise: Noise) -> None:
        self.ham_in = ConvNorm(channels, channels, norm=False)
        self.ham = NMF2D(rank, gradient=gradient, noise=noise)
        self.ham_out = ConvNorm(channels, channels)

    def execute(self, x: Var) -> Var:
        return relu(add(x, self.ham_out(self.ham(cast(relu(self.ham_in(x)), "float32")))))


class ConvNorm(Module):
    """A 1×1 convolution, without bias before group normalisation (32 groups), with bias where there is no norm."""

    def __init__(self, channels_in: int, channels: int, *, norm: bool = True) -> None:
        self.conv = Conv(channels_in, channels, 1, bias=not norm)
        self.gn = GroupNorm(channels) if norm else None

    def execute(self, x: Var) -> Var:
        x = self.conv(x)
        return x if self.gn is None else self.gn(x)


class NMF2D(Module):
    """Replaces (B,D,H,W) ≥ 0 by its rank-R factorisation, found by multiplicative updates (Lee and Seung, 2001).

    The bases are drawn anew in every pass. ``gradient="full"`` differentiates through all steps, as the official
    implementation; ``"one_step"`` through the last update of the coefficients alone.
    """

    def __init__(self, rank: int, *, gradient: str, noise: Noise) -> None:
        if gradient not in GRADIENTS:
            raise ConfigError(f"ham.gradient={gradient} is unknown: choose one of {', '.join(GRADIENTS)}")
        self.rank = rank
        self.gradient = gradient
        self._noise = noise

    def draw_bases(self, batch: int, dim: int, rank: int) -> Var | NDArray[np.float32]:
        """Bases (batch, dim, rank) ≥ 0 with columns of unit length; seeded through ``SegNeXt.seed_noise``."""
        bases = self._noise.bases(dim, rank)
        assert len(bases) == batch
        return bases

    def execute(self, x: Var) -> Var:
        b, d, h, w = x.shape
        x_BDN = x.reshape((b, d, h * w))
        bases = jt.array(self.draw_bases(b, d, self.rank))
        steps = TRAINING_STEPS if self.is_training() else EVALUATION_STEPS
        return factorise(x_BDN, bases, steps=steps, full_gradient=self.gradient == "full").reshape(x.shape)
