"""The four published sizes of SegNeXt as data (SegNeXt paper, Table 2; official configurations), and their results.

Free of Jittor, so that counting and configuration can use it without compiling anything.
"""

from __future__ import annotations

from dataclasses import dataclass

from segnext.errors import ConfigError

__all__ = ["STRIPS", "VARIANTS", "Published", "Variant", "get_variant", "published"]

STRIPS = (7, 11, 21)
"""Lengths of the strip convolutions of every block's attention."""


@dataclass(frozen=True)
class Variant:
    """One size of SegNeXt.

    Attributes:
        embed_dims: channels of the four backbone stages.
        depths: blocks per stage.
        mlp_ratios: hidden channels of the MLP of each stage, as a multiple of its ``embed_dims``.
        drop_path: drop-path rate of the last block; earlier blocks rise linearly from 0.
        decoder_channels: channels of the decode head (squeeze, hamburger and align alike).
        nmf_rank: number of bases R of the non-negative matrix factorisation.
    """

    embed_dims: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    mlp_ratios: tuple[int, int, int, int]
    drop_path: float
    decoder_channels: int
    nmf_rank: int


VARIANTS: dict[str, Variant] = {
    "tiny": Variant((32, 64, 160, 256), (3, 3, 5, 2), (8, 8, 4, 4), 0.1, 256, 16),
    "small": Variant((64, 128, 320, 512), (2, 2, 4, 2), (8, 8, 4, 4), 0.1, 256, 16),
    "base": Variant((64, 128, 320, 512), (3, 3, 12, 3), (8, 8, 4, 4), 0.1, 512, 64),
    "large": Variant((64, 128, 320, 512), (3, 5, 27, 3), (8, 8, 4, 4), 0.3, 1024, 64),
}


def get_variant(name: str) -> Variant:
    """Returns the size called ``name``; raises ConfigError naming the known ones."""
    if name not in VARIANTS:
        raise ConfigError(f"unknown model {name!r}: choose one of {', '.join(VARIANTS)}")
    return VARIANTS[name]


@dataclass(frozen=True)
class Published:
    """mIoU in per cent (single-scale; multi-scale with flips), millions of parameters, billions of MACs ("FLOPs")."""

    mIoU_ss: float
    mIoU_ms: float
    params_M: float
    flops_G: float


# The official README's tables.
_RESULTS = {
    ("tiny", "ade"): Published(41.1, 42.2, 4, 7),
    ("small", "ade"): Published(44.3, 45.8, 14, 16),
    ("base", "ade"): Published(48.5, 49.9, 28, 35),
    ("large", "ade"): Published(51.0, 52.1, 49, 70),
    ("tiny", "cityscapes"): Published(79.8, 81.4, 4, 56),
    ("small", "cityscapes"): Published(81.3, 82.7, 14, 125),
    ("base", "cityscapes"): Published(82.6, 83.8, 28, 276),
    ("large", "cityscapes"): Published(83.2, 83.9, 49, 578),
}


def published(model: str | None, dataset: str | None) -> Published | None:
    """The results of one size on one dataset; None where nothing is published."""
    return _RESULTS.get((model or "", dataset or ""))
