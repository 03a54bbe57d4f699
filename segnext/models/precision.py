"""What a pass computes in: the four choices of ``precision``. Free of Jittor.

Weights, their gradients, norms, softmax, NMF, loss, optimizer and the residual stream of the backbone (whose branches
start out at a hundredth of it, below what a narrow sum resolves) are float32 in all of them.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["Precision"]


class Precision(Enum):
    """Attributes:
    compute_type: type of the convolutions and of the elementwise work between them.
    """

    fp32 = "fp32"
    tf32 = "tf32"  # float32 whose dense convolutions may round products to 10 bits, on tensor cores; CPU: as fp32
    bf16 = "bf16"  # 8 bits of mantissa, the range of float32
    fp16 = "fp16"  # 11 bits of mantissa, up to 65504: gradients need loss scaling

    @property
    def compute_type(self) -> str:
        return {"bf16": "bfloat16", "fp16": "float16"}.get(self.value, "float32")
