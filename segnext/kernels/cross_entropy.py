"""Cross-entropy of logits that are enlarged to the labels' size on the way.

The enlarged logits are the largest map of a training step (2.5 GB for 16 crops of 512×512 and 150 classes), and plain
operators keep several of them. The operators here never have one: they enlarge where they need a value; on CUDA again
for the gradient, which on the CPU is made along with the loss.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segnext.backend import Function, Var, jt
from segnext.kernels.resize import resize_reference
from segnext.kernels.sums import mean

__all__ = ["IGNORE", "cross_entropy", "cross_entropy_reference"]


IGNORE = 255

_CPU_HEADER, _CUDA_HEADER = (
    "".join(Path(__file__).with_name(name).read_text(encoding="utf-8") for name in names)
    for names in (
        ("product_cpu.h", "each.h", "functions.h", "bilinear.h", "resize_cpu.h", "cross_entropy_cpu.h"),
        ("each.h", "bilinear.h", "resize_cuda.h"),
    )
)
# in0 are the logits, in1 the labels.
_SHAPE = """
const segnext::Resize shape{{(int)in0_shape2, (int)in1_shape1}, {(int)in0_shape3, (int)in1_shape2}};
const int batch = (int)in0_shape0, classes = (int)in0_shape1;
"""
_FORWARD = _SHAPE + "segnext::cross_entropy(in0_p, in1_p, out0_p, out1_p, batch, classes, shape);\n"
_GRADIENT = _SHAPE + (
    "segnext::cross_entropy_gradient(in0_p, in1_p, in2_p, in3_p, out1_p, out0_p, batch, classes, shape);\n"
)


def cross_entropy(logits: Var, labels: Var) -> Var:
    """Minus the logarithm of the softmax at each pixel's label, averaged over all pixels.

    Args:
        logits: (B,K,h,w) float32, resized bilinearly to the labels' size; another type takes the plain operators.
        labels: (B,H,W) integers, 0…K−1, or ``IGNORE`` for pixels that cost 0; others must not occur.

    Returns:
        (1,).
    """
    if logits.dtype != "float32":
        return cross_entropy_reference(logits, labels)
    if jt.flags.use_cuda:
        return mean(_PixelLosses()(logits, labels.int32()))
    return _MeanLoss()(logits, labels.int32())


def cross_entropy_reference(logits: Var, labels: Var) -> Var:
    """The same in plain Jittor: what the kernels are tested against."""
    b, height, width = labels.shape
    logits_BKHW = resize_reference(logits, (height, width))
    k = logits_BKHW.shape[1]
    highest = logits_BKHW.max(1, keepdims=True).stop_grad()  # cancels out; keeps exp() in range
    shifted = logits_BKHW - highest.broadcast(logits_BKHW)
    normaliser = jt.log(jt.exp(shifted).sum(1))
    is_true = labels.int32().broadcast((b, k, height, width), [1]) == jt.index((b, k, height, width), 1)
    true_logit = jt.where(is_true, shifted, jt.zeros_like(shifted)).sum(1)
    return ((normaliser - true_logit) * (labels != IGNORE).float32()).mean()


class _MeanLoss(Function):
    """On the CPU: the loss and its gradient in one pass, which the backward pass scales."""

    def execute(self, logits: Var, labels: Var) -> Var:
        shapes, inputs = [(1,), logits.shape], [logits, labels]
        loss, self.saved = jt.code(shapes, ["float32"] * 2, inputs, cpu_header=_CPU_HEADER, cpu_src=_FORWARD)
        return loss

    def grad(self, dloss: Var) -> tuple[Var, None]:
        return self.saved * dloss.broadcast(self.saved), None


class _PixelLosses(Function):
    """On CUDA: (B,H,W)."""

    def execute(self, logits: Var, labels: Var) -> Var:
        losses, normalisers = _cuda_code([labels.shape, labels.shape], [logits, labels], _FORWARD)
        self.saved = logits, labels, normalisers
        return losses

    def grad(self, dlosses: Var) -> tuple[Var, None]:
        logits, labels, normalisers = self.saved
        shapes = [logits.shape, (*logits.shape[1:3], labels.shape[2])]  # the second one of one image
        return _cuda_code(shapes, [logits, labels, normalisers, dlosses], _GRADIENT)[0], None


def _cuda_code(shapes: list[Any], inputs: list[Var], source: str) -> list[Var]:
    dtypes = ["float32"] * len(shapes)
    return list(jt.code(shapes, dtypes, inputs, cuda_header=_CUDA_HEADER, cuda_src=source))
