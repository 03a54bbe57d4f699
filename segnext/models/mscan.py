"""MSCAN, the backbone of SegNeXt (Guo et al., NeurIPS 2022, section 3.1).

Four stages at strides 4, 8, 16 and 32. Parameter names are those of the official implementation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from segnext.backend import Module, Var, jt
from segnext.kernels.attention import AttentionParameters, attend, attention
from segnext.kernels.cast import cast
from segnext.kernels.elementwise import gelu
from segnext.kernels.mlp import MLPParameters, mlp, transform
from segnext.models.gradient_checkpointing import checkpointed
from segnext.models.layers import BatchNorm, Conv, DepthwiseConv, LayerNorm, filled
from segnext.models.noise import Noise
from segnext.models.variants import STRIPS, Variant

__all__ = ["MSCAN", "drop_path_factors", "drop_path_rates"]

LAYER_SCALE_INIT = 1e-2


def drop_path_rates(depths: Sequence[int], rate: float) -> list[float]:
    """Rates of all blocks, rising linearly from 0 in the first to ``rate`` in the last."""
    return [float(r) for r in np.linspace(0, rate, sum(depths))]


def drop_path_factors(rates: Sequence[float], batch: int, noise: Noise | None) -> NDArray[np.float32]:
    """What the branches of every image are multiplied with: two rows a block, attention and MLP, (2·blocks, batch).

    Stochastic depth (Huang et al., Deep Networks with Stochastic Depth, 2016): with probability rate the branch of an
    image is dropped, else divided by 1 − rate. Without ``noise``, as in evaluation, all factors are 1.
    """
    factors = np.ones((2 * len(rates), batch), np.float32)
    if noise is not None:
        dropping = np.repeat(rates, 2) > 0
        keep = (1 - np.repeat(rates, 2)[dropping, None]).astype(np.float32)
        factors[dropping] = np.floor(keep + noise.uniform(len(keep)).T) / keep
    return factors


class MSCAN(Module):
    """Maps images (B,3,H,W) to the maps of its stages: (B, embed_dims[i], ⌈H/2^(i+2)⌉, ⌈W/2^(i+2)⌉) for i = 0…3."""

    def __init__(self, variant: Variant, *, drop_path: float, noise: Noise, checkpointing: bool = False) -> None:
        self._noise = noise
        self._checkpointing = checkpointing
        self.drop_path_rates = drop_path_rates(variant.depths, drop_path)
        rows = iter(range(0, 2 * len(self.drop_path_rates), 2))
        channels_in = 3
        for stage, (channels, depth, ratio) in enumerate(
            zip(variant.embed_dims, variant.depths, variant.mlp_ratios, strict=True), start=1
        ):
            embed = Stem(channels) if stage == 1 else PatchEmbed(channels_in, channels)
            blocks = [Block(channels, ratio, row=next(rows)) for _ in range(depth)]
            setattr(self, f"patch_embed{stage}", embed)
            setattr(self, f"block{stage}", jt.nn.ModuleList(blocks))
            setattr(self, f"norm{stage}", LayerNorm(channels))
            channels_in = channels

    def execute(self, x: Var) -> list[Var]:
        outputs = []
        noise = self._noise if self.is_training() else None
        keep = jt.array(drop_path_factors(self.drop_path_rates, x.shape[0], noise))  # of all blocks in one array
        for stage in range(1, 5):
            x = getattr(self, f"patch_embed{stage}")(x)
            for block in getattr(self, f"block{stage}"):
                x = checkpointed(block, x, keep) if self._checkpointing else block(x, keep)
            x = getattr(self, f"norm{stage}")(x)  # both the output and the input of the next stage
            outputs.append(x)
        return outputs


class Stem(Module):
    """Two 3×3 convolutions of stride 2: (B,3,H,W) to (B,C,⌈H/4⌉,⌈W/4⌉)."""

    def __init__(self, channels: int) -> None:
        half = channels // 2
        self.proj = jt.nn.Sequential(
            Conv(3, half, 3, stride=2, padding=1),
            BatchNorm(half),
            GELU(),
            Conv(half, channels, 3, stride=2, padding=1),
            BatchNorm(channels),
        )

    def execute(self, x: Var) -> Var:
        return self.proj(x)


class GELU(Module):
    """A place in the stem's numbered layers."""

    def execute(self, x: Var) -> Var:
        return gelu(x)


class PatchEmbed(Module):
    """Halves the resolution between two stages."""

    def __init__(self, channels_in: int, channels: int) -> None:
        self.proj = Conv(channels_in, channels, 3, stride=2, padding=1)
        self.norm = BatchNorm(channels)

    def execute(self, x: Var) -> Var:
        return self.norm(self.proj(x))


class Block(Module):
    """Attention, then MLP, each normalised before, scaled per channel, dropped per image and added to its input.

    Args:
        row: of this block's attention in the drop path factors; the next one is of its MLP.
    """

    def __init__(self, channels: int, mlp_ratio: int, *, row: int) -> None:
        self.row = row
        self.norm1 = BatchNorm(channels)
        self.attn = SpatialAttention(channels)
        self.norm2 = BatchNorm(channels)
        self.mlp = MLP(channels, channels * mlp_ratio)
        self.layer_scale_1 = filled(channels, LAYER_SCALE_INIT)
        self.layer_scale_2 = filled(channels, LAYER_SCALE_INIT)

    def execute(self, x: Var, keep: Var) -> Var:
        x = cast(x, "float32")  # the sums too: see Precision
        normal, x = self.norm1.beside(x)
        x = self.attn.add_to(x, normal, self.layer_scale_1, keep, row=self.row)
        normal, x = self.norm2.beside(x)
        return self.mlp.add_to(x, normal, self.layer_scale_2, keep, row=self.row + 1)


class SpatialAttention(Module):
    """The multi-scale convolutional attention between two 1×1 convolutions."""

    def __init__(self, channels: int) -> None:
        self.proj_1 = Conv(channels, channels, 1)
        self.spatial_gating_unit = SpatialGatingUnit(channels)
        self.proj_2 = Conv(channels, channels, 1)

    def execute(self, x: Var) -> Var:
        return attention(cast(x, self.proj_1.compute_type), self._parameters())

    def add_to(self, x: Var, normal: Var, scale: Var, keep: Var, *, row: int) -> Var:
        """x with what this makes of ``normal``, and ``normal``, as ``attend`` adds them."""
        return attend(x, normal, self._parameters(), scale, keep, row=row)

    def _parameters(self) -> AttentionParameters:
        unit = self.spatial_gating_unit
        return AttentionParameters(
            first=self.proj_1.parameters_to_compute_with(),
            weights=[layer.weight for layer in unit.depthwise()],
            biases=[layer.bias for layer in unit.depthwise()],
            gate=unit.conv3.parameters_to_compute_with(),
            last=self.proj_2.parameters_to_compute_with(),
        )


class SpatialGatingUnit(Module):
    """A place for what weighs maps by attention from a 5×5 and three pairs of strip convolutions (paper, equations 1
    and 2).
    """

    def __init__(self, channels: int) -> None:
        self.conv0 = DepthwiseConv(channels, (5, 5))
        for i, length in enumerate(STRIPS):
            setattr(self, f"conv{i}_1", DepthwiseConv(channels, (1, length)))
            setattr(self, f"conv{i}_2", DepthwiseConv(channels, (length, 1)))
        self.conv3 = Conv(channels, channels, 1)

    def depthwise(self) -> list[DepthwiseConv]:
        """All seven, in the order that they are used in."""
        return [self.conv0, *(getattr(self, f"conv{i}_{turn}") for i in range(len(STRIPS)) for turn in (1, 2))]


class MLP(Module):
    """1×1 to ``hidden`` channels, depthwise 3×3, GELU, 1×1 back."""

    def __init__(self, channels: int, hidden: int) -> None:
        self.fc1 = Conv(channels, hidden, 1)
        self.dwconv = DepthwiseMixing(hidden)
        self.fc2 = Conv(hidden, channels, 1)

    def execute(self, x: Var) -> Var:
        return mlp(cast(x, self.fc1.compute_type), self._parameters())

    def add_to(self, x: Var, normal: Var, scale: Var, keep: Var, *, row: int) -> Var:
        """x with what this makes of ``normal``, as ``transform`` adds it."""
        return transform(x, normal, self._parameters(), scale, keep, row=row)

    def _parameters(self) -> MLPParameters:
        depthwise = self.dwconv.dwconv
        return MLPParameters(
            first=self.fc1.parameters_to_compute_with(),
            depthwise=(depthwise.weight, depthwise.bias),
            last=self.fc2.parameters_to_compute_with(),
        )


class DepthwiseMixing(Module):
    """A place for the depthwise convolution, for its official name ``dwconv.dwconv``."""

    def __init__(self, channels: int) -> None:
        self.dwconv = DepthwiseConv(channels, (3, 3))
