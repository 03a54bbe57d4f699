"""Cross-entropy of logits that are enlarged to the labels' size on the way.

The enlarged logits are the largest map of a training step (2.5 GB for 16 crops of 512×512 and 150 classes), and plain
operators keep several of them. The operator here never has one: it enlarges where it needs a value, and again for the
gradient.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segnext.backend import Function, Var, jt
from segnext.kernels.resize import resize_reference

__all__ = ["IGNORE", "cross_entropy", "cross_entropy_reference"]


IGNORE = 255

_CPU_HEADER, _CUDA_HEADER = (
    "".join(Path(__file__).with_name(name).read_text(encoding="utf-8") for name in names)
    for names in (
        ("each.h", "bilinear.h", "resize_cpu.h", "cross_entropy_cpu.h"),
        ("each.h", "bilinear.h", "resize_cuda.h"),
    )
)
# in0 are the logits, in1 the labels.
_SHAPE = """
const segnext::Resize shape{{(int)in0_shape2, (int)in1_shape1}, {(int)in0_shape3, (int)in1_shape2}};
const int batch = (int)in0_shape0, classes = (int)in0_shape1;
"""
_FORWARD = _SHAPE + "segnext::cross_entropy(in0_p, in1_p, out0_p, out1_p, batch, classes, shape);\n"
_GRADIENT = _SHAPE + ("segnext::cross_entropy_gradient(in0_p, in1_p, in2_p, in3_p, RESULTS, batch, classes, shape);\n")


def cross_entropy(logits: Var, labels: Var) -> Var:
    """Minus the logarithm of the softmax at each pixel's label.

    Args:
        logits: (B,K,h,w) float32, resized bilinearly to the labels' size; another type takes the plain operators.
        labels: (B,H,W) integers, 0…K−1, or ``IGNORE`` for pixels that cost 0; others must not occur.

    Returns:
        (B,H,W).
    """
    if logits.dtype != "float32":
        return cross_entropy_reference(logits, labels)
    return _CrossEntropy()(logits, labels.int32())


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
    return (normaliser - true_logit) * (labels != IGNORE).float32()


class _CrossEntropy(Function):
    def execute(self, logits: Var, labels: Var) -> Var:
        shapes, inputs = [labels.shape, labels.shape], [logits, labels]
        losses, normalisers = _code(shapes, inputs, cpu_src=_FORWARD, cuda_src=_FORWARD)
        self.saved = logits, labels, normalisers
        return losses

    def grad(self, dlosses: Var) -> tuple[Var, None]:
        logits, labels, normalisers = self.saved
        inputs = [logits, labels, normalisers, dlosses]
        shapes = [logits.shape]
        if jt.flags.use_cuda:
            shapes.append([*logits.shape[1:3], labels.shape[2]])  # of one image
        cpu, cuda = (_GRADIENT.replace("RESULTS", results) for results in ("out0_p", "out1_p, out0_p"))
        return _code(shapes, inputs, cpu_src=cpu, cuda_src=cuda)[0], None


def _code(shapes: list[Any], inputs: list[Var], *, cpu_src: str, cuda_src: str) -> list[Var]:
    dtypes = ["float32"] * len(shapes)
    if jt.flags.use_cuda:
        return list(jt.code(shapes, dtypes, inputs, cuda_header=_CUDA_HEADER, cuda_src=cuda_src))
    return list(jt.code(shapes, dtypes, inputs, cpu_header=_CPU_HEADER, cpu_src=cpu_src))
