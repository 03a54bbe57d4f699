"""The published results by size and dataset: the official README's tables."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Published", "published"]


@dataclass(frozen=True)
class Published:
    """mIoU in per cent (single-scale; multi-scale with flips), millions of parameters, billions of MACs ("FLOPs")."""

    mIoU_ss: float
    mIoU_ms: float
    params_M: float
    flops_G: float


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
