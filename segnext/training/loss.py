"""The training loss of the official recipe."""

from __future__ import annotations

from typing import Any

from segnext.kernels.cross_entropy import IGNORE, cross_entropy

__all__ = ["IGNORE", "segmentation_loss"]

Var = Any


def segmentation_loss(logits: Var, labels: Var) -> Var:
    """Cross-entropy per pixel at the labels' size, averaged over ALL pixels; ignored ones count as 0.

    Args:
        logits: (B,K,h,w) float32, resized bilinearly to the labels' size.
        labels: (B,H,W) integers, 0…K−1 or 255 for ignored pixels; other values must not occur (the datasets check).

    Returns:
        (1,) float32.
    """
    return cross_entropy(logits, labels).mean()
