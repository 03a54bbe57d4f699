"""Where the time of a step goes, operator by operator, as Jittor's profiler sees it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from segnext import backend
from segnext.backend import jt

__all__ = ["Machine", "OperatorKind", "kind_of", "probe", "profile_operators"]

# The first pattern found in an operator's name decides; operators that Jittor fused have the names of all their parts.
_KINDS = (
    (r"segnext::Norm", "norms"),
    (r"segnext::Attention", "attention"),
    (r"segnext::Mixing", "MLP"),
    (r"segnext::mix", "MLP, second half"),
    (r"Depthwise convolution|segnext::multi_scale_depthwise", "depthwise convolution"),
    (r"segnext::factorise|matmul", "matrix products (NMF)"),
    (r"segnext::cross_entropy", "loss"),
    (r"segnext::labels", "labels"),
    (r"segnext::(resize|sample)", "resize"),
    (r"segnext::AdamW", "AdamW"),
    (r"conv_backward|segnext::(input|weight)_gradient", "convolution, backward"),
    (r"conv", "convolution, forward"),
    (r"reindex", "gather, scatter"),
    (r"reduce", "reductions (norms, softmax)"),
)
_OTHER = "elementwise"


@dataclass(frozen=True)
class OperatorKind:
    """Calls, seconds, and bytes read and written by all operators of a kind."""

    name: str
    calls: int
    seconds: float
    bytes: float


def kind_of(name: str) -> str:
    """The kind of the operator that Jittor's profiler calls ``name``."""
    return next((kind for pattern, kind in _KINDS if re.search(pattern, name)), _OTHER)


def profile_operators(step: Callable[[], object]) -> list[OperatorKind]:
    """Runs ``step`` once under Jittor's profiler, which waits for every operator; the slowest kind comes first."""
    with jt.profile_scope() as report:
        step()
    header, *rows = report
    column = {title: number for number, title in enumerate(header)}
    totals: dict[str, tuple[int, float, float]] = {}
    for row in rows:
        seconds = float(row[column["TotalTime"]]) * 1e-9
        if seconds == 0:  # the description of an operator that a library call has replaced
            continue
        kind = kind_of(row[column["Name"]])
        calls, time, moved = totals.get(kind, (0, 0.0, 0.0))
        moved += float(row[column["InOut"]]) * seconds  # the column is a rate, bytes per second
        totals[kind] = (calls + int(row[column["Count"]]), time + seconds, moved)
    kinds = [OperatorKind(name, *figures) for name, figures in totals.items()]
    return sorted(kinds, key=lambda kind: kind.seconds, reverse=True)


_COPY_FLOATS = {"cpu": 2**25, "cuda": 2**28}  # 128 MiB and 1 GiB: beyond any cache
_MATRIX = {"cpu": 1024, "cuda": 8192}
_ROUNDS = 7


@dataclass(frozen=True)
class Machine:
    """Measured rates.

    Attributes:
        bytes_per_second: reading and writing together, of x + 1 over a large array.
        macs_per_second: multiply-accumulates of a large square float32 matrix product.
    """

    bytes_per_second: float
    macs_per_second: float

    def best(self, other: Machine) -> Machine:
        """The higher rates of two measurements: what else the machine does can only lower them."""
        return Machine(
            max(self.bytes_per_second, other.bytes_per_second), max(self.macs_per_second, other.macs_per_second)
        )


def probe() -> Machine:
    """Measures the device that Jittor runs on, through Jittor; the best of a few rounds each."""
    device = backend.device_name()
    vector = jt.array(np.zeros(_COPY_FLOATS[device], np.float32))
    n = _MATRIX[device]
    matrix = jt.array(np.random.default_rng(0).random((n, n), dtype=np.float32))
    with jt.no_grad():
        copy = _best(jt, lambda: vector + 1)
        product = _best(jt, lambda: jt.matmul(matrix, matrix))
    return Machine(bytes_per_second=8 * _COPY_FLOATS[device] / copy, macs_per_second=n**3 / product)


def _best(jt: Any, operation: Any) -> float:
    seconds = []
    for _ in range(_ROUNDS):
        jt.sync_all(True)
        start = time.perf_counter()
        operation().sync()
        jt.sync_all(True)
        seconds.append(time.perf_counter() - start)
    return min(seconds)
