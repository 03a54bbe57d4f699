"""The training loss of the official recipe."""

from __future__ import annotations

from typing import Any

from segnext import backend
from segnext.models.layers import resize

__all__ = ["IGNORE", "segmentation_loss"]

jt = backend.start()
Var = Any

IGNORE = 255


def segmentation_loss(logits: Var, labels: Var) -> Var:
    """Cross-entropy per pixel at the labels' size, averaged over ALL pixels; ignored ones count as 0.

    Args:
        logits: (B,K,h,w) float32, resized bilinearly to the labels' size.
        labels: (B,H,W) integers, 0…K−1 or 255 for ignored pixels; other values must not occur (the datasets check).

    Returns:
        (1,) float32.
    """
    b, height, width = labels.shape
    logits_BKHW = resize(logits, (height, width))
    k = logits_BKHW.shape[1]
    highest = logits_BKHW.max(1, keepdims=True).stop_grad()  # cancels out; keeps exp() in range
    shifted = logits_BKHW - highest.broadcast(logits_BKHW)
    normaliser = jt.log(jt.exp(shifted).sum(1))
    is_true = labels.int32().broadcast((b, k, height, width), [1]) == jt.index((b, k, height, width), 1)
    true_logit = jt.where(is_true, shifted, jt.zeros_like(shifted)).sum(1)
    counted = (labels != IGNORE).float32()
    return ((normaliser - true_logit) * counted).mean()
