"""Sums with the same bits in every run, where Jittor's own end in atomic additions: on CUDA.

On the CPU they are plain Jittor.
"""

from __future__ import annotations

from pathlib import Path

from segnext.backend import Function, Var, jt

__all__ = ["PLANES_CUDA", "add_bias", "channel_sum", "mean"]

PLANES_CUDA = Path(__file__).with_name("planes_cuda.h").read_text(encoding="utf-8")
_CHANNELS = """
segnext::sum_channels(in0_p, out0_p, out1_p, (int)in0_shape0, (int)in0_shape1,
                      in0->num / (in0_shape0 * in0_shape1));
"""
_ALL = """
segnext::sum_all(in0_p, out0_p, out1_p, (int)out1_shape0, in0->num, (float)data["scale"]);
"""
_ELEMENTS = 1 << 14  # of a block
_MOST_BLOCKS = 1024


def add_bias(x: Var, bias: Var) -> Var:
    """``x`` (B,C,H,W) and ``bias`` (C,), of the same type."""
    return _AddBias.apply(x, bias)


def channel_sum(x: Var) -> Var:
    """(B,C,H,W) of any type to (C,) of the same; it is added up in float32. No gradient."""
    if not jt.flags.use_cuda:
        return x.float32().sum([0, 2, 3]).cast(x.dtype)
    channels, planes = x.shape[1], x.shape[0] * x.shape[1]
    shapes, dtypes = [[channels], [planes]], [x.dtype, "float32"]
    return jt.code(shapes, dtypes, [x], cuda_header=PLANES_CUDA, cuda_src=_CHANNELS)[0]


def mean(x: Var) -> Var:
    """Of all elements of ``x``, float32, (1,)."""
    return _Mean.apply(x) if jt.flags.use_cuda else x.mean()


class _AddBias(Function):
    def execute(self, x: Var, bias: Var) -> Var:
        return x + bias.broadcast(x, [0, 2, 3])

    def grad(self, dy: Var) -> tuple[Var, Var]:
        return dy, channel_sum(dy)


class _Mean(Function):
    def execute(self, x: Var) -> Var:
        self.shape, self.share = x.shape, 1 / x.numel()
        blocks = max(1, min(_MOST_BLOCKS, -(-x.numel() // _ELEMENTS)))
        shapes, dtypes, data = [[1], [blocks]], ["float32"] * 2, {"scale": self.share}
        return jt.code(shapes, dtypes, [x], cuda_header=PLANES_CUDA, cuda_src=_ALL, data=data)[0]

    def grad(self, dy: Var) -> Var:
        return (dy * self.share).broadcast(self.shape)
