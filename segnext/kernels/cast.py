"""Casts between float32, bfloat16 and float16, to the nearest and ties to even, with the cast back as gradient.

Jittor's own do so on CUDA; on the CPU its bfloat16 is cut off, which would shrink everything a little in every layer.
"""

from __future__ import annotations

from segnext.backend import Function, Var, jt

__all__ = ["cast"]


_ROUND = """
for (int64 i = 0; i < in0->num; i++) {
    uint32 bits;
    std::memcpy(&bits, in0_p + i, sizeof bits);
    const bool nan = (bits & 0x7fffffff) > 0x7f800000;  // whose rounding could end in infinity
    out0_p[i].x = nan ? bits >> 16 | 64 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
"""


def cast(x: Var, dtype: str) -> Var:
    """``x`` in ``dtype``; itself where it is of that type."""
    if x.dtype == dtype:
        return x
    if jt.flags.use_cuda or "bfloat16" not in (str(x.dtype), dtype):
        return x.cast(dtype)
    return _Cast(dtype)(x)


class _Cast(Function):
    def __init__(self, dtype: str) -> None:
        super().__init__()
        self.dtype = dtype

    def execute(self, x: Var) -> Var:
        self.origin = x.dtype
        return _rounded(x, self.dtype)

    def grad(self, dy: Var) -> Var:
        return _rounded(dy, self.origin)


def _rounded(x: Var, dtype: str) -> Var:
    if dtype != "bfloat16" or x.dtype != "float32":
        return x.cast(dtype)  # to a wider type, or a type that Jittor rounds to
    return jt.code(x.shape, dtype, [x], cpu_header="#include <cstring>", cpu_src=_ROUND)
