"""The four published sizes of SegNeXt as data (SegNeXt paper, Table 2; official configurations).

Free of Jittor, so that counting and configuration can use it without compiling anything.
"""

from __future__ import annotations

from dataclasses import dataclass

from segnext.errors import ConfigError

__all__ = ["VARIANTS", "Variant", "get_variant"]


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
