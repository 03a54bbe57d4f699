"""SegNeXt: backbone and decode head joined, and the one builder of all sizes."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segnext import backend
from segnext.backend import Module, Var
from segnext.errors import ConfigError
from segnext.kernels.cast import cast
from segnext.models.ham_head import LightHamHead
from segnext.models.layers import Conv, cast_weights
from segnext.models.mscan import MSCAN
from segnext.models.noise import Noise, Seed
from segnext.models.settings import ModelSettings, Precision
from segnext.models.tensor_shapes import is_running_statistic
from segnext.models.variants import get_variant

__all__ = ["SegNeXt", "create_model", "initial_value"]


class SegNeXt(Module):
    """Maps normalised images (B,3,H,W) float32 to logits (B, num_classes, ⌈H/8⌉, ⌈W/8⌉)."""

    def __init__(self, settings: ModelSettings, *, num_classes: int) -> None:
        variant = get_variant(settings.name)
        self.num_classes = num_classes
        self._noise = Noise()
        self.backbone = MSCAN(
            variant,
            drop_path=variant.drop_path if settings.drop_path is None else settings.drop_path,
            noise=self._noise,
            checkpointing=settings.gradient_checkpointing,
        )
        self.decode_head = LightHamHead(
            variant.embed_dims[1:],
            variant.decoder_channels,
            num_classes=num_classes,
            nmf_rank=settings.nmf_rank,
            nmf_gradient=settings.ham.gradient,
            dropout=settings.dropout,
            noise=self._noise,
        )
        self._convolutions = tuple(each for each in self.modules() if isinstance(each, Conv))

    def execute(self, images: Var) -> Var:
        self._noise.start(images.shape[0], training=self.is_training())
        with cast_weights(self._convolutions):
            return cast(self.decode_head(self.backbone(images)[1:]), "float32")

    def seed_noise(self, seeds: Sequence[Seed] | None) -> None:
        """Makes drop path, dropout and NMF bases of the coming passes functions of one seed per image."""
        self._noise.seed(seeds)

    def tensors(self) -> dict[str, Var]:
        """Every parameter and running statistic by its official name."""
        return dict(self.named_parameters())

    def parameters_to_train(self) -> dict[str, Var]:
        """``tensors()`` without the running statistics, which Jittor counts as parameters."""
        return {name: var for name, var in self.tensors().items() if not is_running_statistic(name)}


def create_model(
    settings: ModelSettings | str,
    *,
    num_classes: int,
    precision: Precision | str = Precision.fp32,
    seed: int = 0,
    **changes: Any,
) -> SegNeXt:
    """Builds a SegNeXt with freshly drawn weights, in training mode.

    Args:
        settings: of the network, or its name: tiny, small, base or large.
        num_classes: channels of the logits.
        precision: fp32, tf32, bf16 or fp16, see Precision; tf32 holds for the whole process.
        seed: of the initial weights.
        changes: with a name, the settings that differ from the default, for example ``drop_path=0.2``.

    Raises:
        ConfigError: an unknown name or precision, or a setting out of range.
    """
    chosen = _precision(precision)
    if isinstance(settings, str):
        settings = ModelSettings(settings, **changes)
    model = SegNeXt(settings, num_classes=num_classes)
    for tensor_name, var in model.tensors().items():
        value = initial_value(tensor_name, tuple(var.shape), seed=seed)
        if value is not None:
            var.assign(value)
    for module in model.modules():
        if hasattr(module, "compute_type"):
            module.compute_type = chosen.compute_type
    backend.allow_tf32(chosen is Precision.tf32)
    model.train()  # a fresh Jittor module has its norms in training mode but its dropouts off
    return model


def initial_value(name: str, shape: tuple[int, ...], *, seed: int) -> NDArray[np.float32] | None:
    """The official initial value of the tensor called ``name``; None where the layer's own (0 or 1) is right.

    Convolutions are normal with variance 2/fan_out, where fan_out = kh·kw·C_out/groups, the classifier has standard
    deviation 0.01; biases are 0. The draw depends on ``seed`` and ``name`` alone.
    """
    if name.endswith(".bias"):
        return np.zeros(shape, np.float32)
    if len(shape) != 4:
        return None
    channels_out, _, kh, kw = shape
    groups = channels_out if _is_depthwise(name) else 1
    std = 0.01 if name == "decode_head.conv_seg.weight" else math.sqrt(2 / (kh * kw * channels_out / groups))
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    return rng.standard_normal(shape, dtype=np.float32) * np.float32(std)


def _is_depthwise(name: str) -> bool:
    return ".dwconv." in name or (".spatial_gating_unit." in name and ".conv3." not in name)


def _precision(name: Precision | str) -> Precision:
    try:
        return Precision(name)
    except ValueError:
        known = ", ".join(precision.value for precision in Precision)
        raise ConfigError(f"precision={name} is unknown: choose one of {known}") from None
