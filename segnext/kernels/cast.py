"""Casts between float32, bfloat16 and float16, to the nearest and ties to even, with the cast back as gradient.

Jittor's own do so on CUDA; on the CPU its bfloat16 is cut off, which would shrink everything a little in every layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segnext.backend import Function, Var, jt

__all__ = ["cast", "cast_all"]


TOGETHER = 32  # arrays of an operator

_HEADER = "".join(
    Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("each.h", "several.h", "cast.h")
)


def _source(count: int) -> str:
    casts = ", ".join(f"{{in{i}_p, out{i}_p}}" for i in range(count))
    counts = ", ".join(f"(size_t)in{i}->num" for i in range(count))
    return f"""
const segnext::Cast<in0_type, out0_type> casts[] = {{{casts}}};
const size_t counts[] = {{{counts}}};
segnext::launch(casts, counts);
"""


def cast(x: Var, dtype: str) -> Var:
    """``x`` in ``dtype``; itself where it is of that type."""
    if x.dtype == dtype:
        return x
    if jt.flags.use_cuda or "bfloat16" not in (str(x.dtype), dtype):
        return x.cast(dtype)
    return _Cast(dtype)(x)


def cast_all(arrays: Sequence[Var], dtype: str) -> list[Var]:
    """``cast(x, dtype)`` of every x in ``arrays``, all of one type and of equally many dimensions, in few operators."""
    if not arrays or arrays[0].dtype == dtype:
        return list(arrays)
    results: list[Var] = []
    for first in range(0, len(arrays), TOGETHER):
        chunk = list(arrays[first : first + TOGETHER])
        results += [cast(chunk[0], dtype)] if len(chunk) == 1 else _CastAll(dtype)(*chunk)
    return results


class _Cast(Function):
    def __init__(self, dtype: str) -> None:
        super().__init__()
        self.dtype = dtype

    def execute(self, x: Var) -> Var:
        self.origin = x.dtype
        return _rounded([x], self.dtype)[0]

    def grad(self, dy: Var) -> Var:
        return _rounded([dy], self.origin)[0]


class _CastAll(_Cast):
    def execute(self, *arrays: Var) -> tuple[Var, ...]:
        self.origin = arrays[0].dtype
        return tuple(_rounded(arrays, self.dtype))

    def grad(self, *gradients: Var | None) -> tuple[Var | None, ...]:
        narrow = [
            each for each in gradients if each is not None and each.dtype != self.origin
        ]  # others are cast already
        wanted = iter(_rounded(narrow, self.origin) if narrow else [])
        return tuple(each if each is None or each.dtype == self.origin else next(wanted) for each in gradients)


def _rounded(arrays: Sequence[Var], dtype: str) -> list[Var]:
    if len(arrays) == 1 and (jt.flags.use_cuda or dtype != "bfloat16"):
        return [arrays[0].cast(dtype)]  # to a wider type, or a type that Jittor rounds to
    shapes, dtypes = [each.shape for each in arrays], [dtype] * len(arrays)
    side = "cuda" if jt.flags.use_cuda else "cpu"
    code = {f"{side}_header": _HEADER, f"{side}_src": _source(len(arrays))}
    return list(jt.code(shapes, dtypes, list(arrays), **code))
