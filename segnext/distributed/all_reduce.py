"""Means over all ranks inside Jittor's graph, differentiable, in the same order on every rank.

Jittor computes a graph when a value is asked for; ranks that ask for different values at different times would wait for
each other's sums forever. So every rank runs the same code, and who only wants to look (the log) looks after
``sync_all``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from segnext.backend import Var, jt
from segnext.kernels.packing import pack, unpack

__all__ = ["all_reduce_mean", "all_reduce_means", "without_communication"]


# Many small messages cost their latency, one of all gradients a second copy of them all at once.
BUCKET_BYTES = 32 << 20

_silent = False


def all_reduce_mean(x: Var) -> Var:
    """The mean of ``x`` (float32, of one shape on every rank) over all ranks, on every rank; ``x`` in one process.

    The gradient is that of the sum of all ranks' losses.
    """
    return x if jt.world_size == 1 or _silent else x.mpi_all_reduce("mean")


def all_reduce_means(variables: Mapping[str, Var]) -> dict[str, Var]:
    """``all_reduce_mean`` of many variables, in messages of about 32 MiB."""
    if jt.world_size == 1 or _silent:
        return dict(variables)
    averaged: dict[str, Var] = {}
    for names in _buckets({name: var.numel() * 4 for name, var in variables.items()}):
        packed = all_reduce_mean(pack([variables[name] for name in names]))
        averaged |= zip(names, unpack(packed, [variables[name].shape for name in names]), strict=True)
    return averaged


@contextlib.contextmanager
def without_communication() -> Iterator[None]:
    """Within it this rank computes for itself, as one process would: what communication costs is measured so."""
    global _silent
    _silent = True
    try:
        yield
    finally:
        _silent = False


def _buckets(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    bucket: list[str] = []
    filled = 0
    for name, size in sizes.items():
        if bucket and filled + size > BUCKET_BYTES:
            yield bucket
            bucket, filled = [], 0
        bucket.append(name)
        filled += size
    if bucket:
        yield bucket
