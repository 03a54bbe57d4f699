"""The settings of a network, and the precision it computes in. Free of Jittor."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum

from segnext.models.variants import get_variant
from segnext.settings import MISSING, require

__all__ = ["Gradient", "HamSettings", "ModelSettings", "Precision"]


class Gradient(str, Enum):
    """Of the matrix factorisation: through all its steps, or through the last one alone (cheaper)."""

    full = "full"
    one_step = "one_step"


@dataclass
class HamSettings:
    """The decode head's matrix factorisation.

    Attributes:
        rank: number of NMF bases; null: the published one of this size
        gradient: full (through all NMF steps, as the official code) or one_step (cheaper)
    """

    rank: int | None = None
    gradient: Gradient = Gradient.full


@dataclass
class ModelSettings:
    """One SegNeXt but for its number of classes. What follows from the size is filled in when the object is made.

    Attributes:
        name: size of the network: tiny, small, base or large
        drop_path: drop-path rate of the last block, from 0 to below 1; null: the published one of this size
        dropout: probability of dropping a channel before the classifier
        ham: the decode head's matrix factorisation
        gradient_checkpointing: less memory for up to a third more time: blocks are computed again for the gradient
    """

    name: str = MISSING
    drop_path: float | None = None
    dropout: float = 0.1
    ham: HamSettings = field(default_factory=HamSettings)
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        if self.name == MISSING:
            return
        variant = get_variant(self.name)
        if self.drop_path is None:
            self.drop_path = variant.drop_path
        if self.ham.rank is None:
            self.ham = replace(self.ham, rank=variant.nmf_rank)
        require(0 <= self.drop_path < 1, "model.drop_path", self.drop_path, "a rate from 0 to below 1")
        require(0 <= self.dropout < 1, "model.dropout", self.dropout, "a rate from 0 to below 1")
        require(self.nmf_rank >= 1, "model.ham.rank", self.nmf_rank, "at least 1")

    @property
    def nmf_rank(self) -> int:
        """Number of NMF bases."""
        return self.ham.rank or get_variant(self.name).nmf_rank


class Precision(Enum):
    """What a pass computes in.

    Weights, their gradients, norms, softmax, NMF, loss, optimizer and the residual stream of the backbone (whose
    branches start out at a hundredth of it, below what a narrow sum resolves) are float32 in all of them.
    """

    fp32 = "fp32"
    tf32 = "tf32"  # float32 whose dense convolutions may round products to 10 bits, on tensor cores; CPU: as fp32
    bf16 = "bf16"  # 8 bits of mantissa, the range of float32
    fp16 = "fp16"  # 11 bits of mantissa, up to 65504: gradients need loss scaling

    @property
    def compute_type(self) -> str:
        """Type of the convolutions and of the elementwise work between them."""
        return {"bf16": "bfloat16", "fp16": "float16"}.get(self.value, "float32")
