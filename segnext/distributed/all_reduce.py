"""Means over all ranks inside Jittor's graph, differentiable, in the same order on every rank.

Jittor computes a graph when a value is asked for; ranks that ask for different values at different times would wait for
each other's sums forever. So every rank runs the same code, and who only wants to look (the log) looks after
``sync_all``.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence

from segnext.backend import Var, jt

__all__ = ["all_reduce_mean", "all_reduce_means", "buckets_of", "pack", "unpack", "without_communication"]


# Many small messages cost their latency, one of all gradients a second copy of them all at once; and what Jittor does
# before it starts an operator grows with the square of its variables: two seconds for the 457 of tiny.
BUCKET_BYTES = 32 << 20
BUCKET_VARIABLES = 32

_silent = False


def all_reduce_mean(x: Var) -> Var:
    """The mean of ``x`` (float32, of one shape on every rank) over all ranks, on every rank; ``x`` in one process.

    The gradient is that of the sum of all ranks' losses.
    """
    return x if jt.world_size == 1 or _silent else x.mpi_all_reduce("mean")


def all_reduce_means(variables: Mapping[str, Var]) -> dict[str, Var]:
    """``all_reduce_mean`` of many variables, in messages of about 32 MiB or of 32 variables."""
    if jt.world_size == 1 or _silent:
        return dict(variables)
    averaged: dict[str, Var] = {}
    for names in buckets_of({name: var.numel() * 4 for name, var in variables.items()}):
        packed = all_reduce_mean(pack([variables[name] for name in names]))
        averaged |= zip(names, unpack(packed, [variables[name].shape for name in names]), strict=True)
    return averaged


@contextlib.contextmanager
def without_communication() -> Iterator[None]:
    """Within it every rank works as if it were alone, which shows what communication costs."""
    global _silent
    _silent = True
    try:
        yield
    finally:
        _silent = False


def buckets_of(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """The names of variables of so many bytes that go into one message each, in their order."""
    bucket: list[str] = []
    filled = 0
    for name, size in sizes.items():
        if len(bucket) == BUCKET_VARIABLES or (bucket and filled + size > BUCKET_BYTES):
            yield bucket
            bucket, filled = [], 0
        bucket.append(name)
        filled += size
    if bucket:
        yield bucket


# Jittor's own concatenation copies the whole result once per piece.
_CPU_COPY = "std::memcpy(TO, FROM, VAR->size); "
_CUDA_COPY = "cudaMemcpyAsync(TO, FROM, VAR->size, cudaMemcpyDeviceToDevice, 0); "


def pack(variables: Sequence[Var]) -> Var:
    """The elements of all ``variables`` (float32, of any shape) one after the other, shape (N,)."""
    size = sum(variable.numel() for variable in variables)
    flat = [variable.reshape(-1) for variable in variables]  # so that messages of as many have one operator
    return _code([[size]], flat, [f"in{i}" for i in range(len(flat))], packed="out0")[0]


def unpack(packed: Var, shapes: Sequence[Sequence[int]]) -> list[Var]:
    """The variables of these shapes that ``pack`` has put into ``packed`` (N,)."""
    sizes = [[math.prod(shape)] for shape in shapes]
    flat = _code(sizes, [packed], [f"out{i}" for i in range(len(sizes))], packed="in0")
    return [variable.reshape(list(shape)) for variable, shape in zip(flat, shapes, strict=True)]


def _code(shapes: list[list[int]], inputs: Sequence[Var], pieces: Sequence[str], *, packed: str) -> list[Var]:
    lines = ["size_t first = 0;"]
    for piece in pieces:
        whole, part = f"{packed}_p + first", f"{piece}_p"
        to, source = (whole, part) if packed == "out0" else (part, whole)
        copy = _CUDA_COPY if jt.flags.use_cuda else _CPU_COPY
        lines.append(copy.replace("TO", to).replace("FROM", source).replace("VAR", piece) + f"first += {piece}->num;")
    language = "cuda" if jt.flags.use_cuda else "cpu"
    code = {f"{language}_header": "#include <cstring>", f"{language}_src": "\n".join(lines)}
    outputs = jt.code(shapes, ["float32"] * len(shapes), list(inputs), **code)
    return list(outputs) if isinstance(outputs, list | tuple) else [outputs]
