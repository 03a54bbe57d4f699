"""Dynamic loss scaling for float16 (Micikevicius et al., Mixed Precision Training, ICLR 2018, section 3.2).

Gradients below 6e-8 vanish in float16, so the loss is multiplied before the backward pass and the gradients are
divided after it. The factor is as large as the gradients bear: it is halved whenever one overflows, and doubled after
a long time without.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from segnext.errors import DivergenceError

__all__ = ["LossScale"]


class LossScale:
    """The factor and what it learned so far.

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
        self.value, self.finite_steps = float(state["loss_scale"]), int(state["finite_steps"])
