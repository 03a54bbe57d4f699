"""The training loss of the official recipe, and its scaling for float16."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from segnext.backend import Var
from segnext.errors import DivergenceError
from segnext.kernels.cross_entropy import IGNORE, cross_entropy

__all__ = ["IGNORE", "LossScale", "segmentation_loss"]


def segmentation_loss(logits: Var, labels: Var) -> Var:
    """Cross-entropy per pixel at the labels' size, averaged over ALL pixels; ignored ones count as 0.

    Args:
        logits: (B,K,h,w) float32, resized bilinearly to the labels' size.
        labels: (B,H,W) integers, 0…K−1 or 255 for ignored pixels; other values must not occur (the datasets check).

    Returns:
        (1,) float32.
    """
    return cross_entropy(logits, labels)


class LossScale:
    """Dynamic loss scaling for float16 (Micikevicius et al., Mixed Precision Training, ICLR 2018, section 3.2).

    Gradients below 6e-8 vanish in float16, so the loss is multiplied before the backward pass and the gradients are
    divided after it. The factor is halved whenever a gradient overflows and doubled after a long time without.

    Args:
        value: the factor to begin with, a power of two: multiplying by it rounds nothing.
        patience: finite steps in a row after which it is doubled.
    """

    def __init__(self, value: float = 2.0**16, *, patience: int = 2000) -> None:
        self.value = value
        self.patience = patience
        self.finite_steps = 0

    def update(self, gradient_norm: float) -> bool:
        """Takes note of a step's gradient norm; returns whether the step may be taken.

        Raises:
            DivergenceError: gradients were not finite even without any scaling.
        """
        if math.isfinite(gradient_norm):
            self.finite_steps += 1
            if self.finite_steps == self.patience:
                self.value, self.finite_steps = self.value * 2, 0
            return True
        if self.value <= 1:
            raise DivergenceError(
                "gradients overflow float16 at any loss scale: take precision=bf16 or fp32, or lower schedule.lr"
            )
        self.value, self.finite_steps = self.value / 2, 0
        return False

    def state(self) -> dict[str, Any]:
        return {"loss_scale": self.value, "finite_steps": self.finite_steps}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores ``state()``, whose values may have become text."""
        if "loss_scale" in state:  # missing if the run was of another precision so far
            self.value, self.finite_steps = float(state["loss_scale"]), int(state["finite_steps"])
