"""SegNeXt: backbone and decode head joined, and the one builder of all sizes."""

from __future__ import annotations

from collections.abc import Sequence

from segnext import backend
from segnext.backend import Module, Var
from segnext.errors import ConfigError
from segnext.kernels.cast import cast
from segnext.models.ham_head import LightHamHead
from segnext.models.init import initial_value
from segnext.models.layers import BUFFERS
from segnext.models.mscan import MSCAN
from segnext.models.noise import Noise, Seed
from segnext.models.precision import Precision
from segnext.models.variants import Variant, get_variant

__all__ = ["SegNeXt", "create_model"]


class SegNeXt(Module):
    """Maps normalised images (B,3,H,W) float32 to logits (B, num_classes, ⌈H/8⌉, ⌈W/8⌉)."""

    def __init__(
        self,
        variant: Variant,
        *,
        num_classes: int,
        drop_path: float,
        dropout: float,
        nmf_rank: int,
        nmf_gradient: str,
        checkpointing: bool,
    ) -> None:
        self.num_classes = num_classes
        self._noise = Noise()
        self.backbone = MSCAN(variant, drop_path=drop_path, noise=self._noise, checkpointing=checkpointing)
        self.decode_head = LightHamHead(
            variant.embed_dims[1:],
            variant.decoder_channels,
            num_classes=num_classes,
            nmf_rank=nmf_rank,
            nmf_gradient=nmf_gradient,
            dropout=dropout,
            noise=self._noise,
        )

    def execute(self, images: Var) -> Var:
        self._noise.start(images.shape[0], training=self.is_training())
        return cast(self.decode_head(self.backbone(images)[1:]), "float32")

    def seed_noise(self, seeds: Sequence[Seed] | None) -> None:
        """Makes drop path, dropout and NMF bases of the coming passes functions of one seed per image."""
        self._noise.seed(seeds)

    def tensors(self) -> dict[str, Var]:
        """Every parameter and running statistic by its official name."""
        return dict(self.named_parameters())

    def parameters_to_train(self) -> dict[str, Var]:
        """``tensors()`` without the running statistics, which Jittor counts as parameters."""
        return {name: var for name, var in self.tensors().items() if name.rsplit(".", 1)[-1] not in BUFFERS}


def create_model(
    name: str,
    *,
    num_classes: int,
    drop_path: float | None = None,
    dropout: float = 0.1,
    nmf_rank: int | None = None,
    nmf_gradient: str = "full",
    precision: str = "fp32",
    gradient_checkpointing: bool = False,
    seed: int = 0,
) -> SegNeXt:
    """Builds a SegNeXt with freshly drawn weights, in training mode.

    Args:
        name: tiny, small, base or large.
        num_classes: channels of the logits.
        drop_path: rate of the last block, 0 ≤ rate < 1; None takes the published one of this size.
        dropout: probability of dropping a channel before the classifier.
        nmf_rank: number of NMF bases; None takes the published one of this size.
        nmf_gradient: ``full`` or ``one_step``, see NMF2D.
        precision: fp32, tf32, bf16 or fp16, see Precision; tf32 holds for the whole process.
        gradient_checkpointing: the blocks of the backbone keep only their input and are computed again in the backward
            pass: the same figures for less memory and up to a third more time.
        seed: of the initial weights.

    Raises:
        ConfigError: unknown ``name``, ``nmf_gradient`` or ``precision``.
    """
    chosen = _precision(precision)
    variant = get_variant(name)
    model = SegNeXt(
        variant,
        num_classes=num_classes,
        drop_path=variant.drop_path if drop_path is None else drop_path,
        dropout=dropout,
        nmf_rank=nmf_rank or variant.nmf_rank,
        nmf_gradient=nmf_gradient,
        checkpointing=gradient_checkpointing,
    )
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


def _precision(name: str) -> Precision:
    try:
        return Precision(name)
    except ValueError:
        known = ", ".join(precision.value for precision in Precision)
        raise ConfigError(f"precision={name} is unknown: choose one of {known}") from None
