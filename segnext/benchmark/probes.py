"""What this machine can do at best: the yardsticks of the benchmark."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from segnext import backend
from segnext.backend import jt

__all__ = ["Machine", "probe"]

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
