"""Damage as it comes by chance: seeded changes of a file's bytes, and the limits that every reader has to keep."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

import numpy as np

from segnext.benchmark.measuring import forget_peak, peak_bytes

_SPLICES = (
    b"\x00",
    b"\xff" * 8,
    b"\x7f\xff\xff\xff\xff\xff\xff\xff",
    b"{",
    b"[" * 2000,
    b"1e999",
    b"-5",
    b"null",
    b'"',
)


class TimeUp(BaseException):
    """No handler of an ordinary error catches it."""


@contextlib.contextmanager
def limits(*, seconds: float = 5.0, megabytes: int = 256) -> Iterator[None]:
    """Fails when the block takes longer, or this process grows by more."""

    def end(number: int, frame: FrameType | None) -> None:
        raise TimeUp(f"more than {seconds} s")

    forget_peak()
    before = peak_bytes()
    previous = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert peak_bytes() - before < megabytes << 20


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """``data`` after one to four changes: bits flipped, parts cut out, repeated, moved or overwritten, the end lost."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        if not changed:
            break
        start, end = sorted(int(n) for n in rng.integers(0, min(len(changed), _reach(rng, len(changed))) + 1, 2))
        kind = rng.integers(6)
        if kind == 0:
            changed[min(start, len(changed) - 1)] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            del changed[start:end]
        elif kind == 2:
            changed[start:start] = changed[start : min(end, start + 4096)]
        elif kind == 3:
            splice = _SPLICES[rng.integers(len(_SPLICES))]
            changed[start : start + len(splice)] = splice
        elif kind == 4:
            changed[start : start + 8] = rng.bytes(8)
        else:
            del changed[end:]
    return bytes(changed)


def _reach(rng: np.random.Generator, size: int) -> int:
    """Half of the changes fall into the first part of a file, where its structure is."""
    return 600 if rng.integers(2) else size
