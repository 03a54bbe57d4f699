"""Where the time of a step goes, operator by operator, as Jittor's profiler sees it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from segnext import backend

__all__ = ["OperatorKind", "profile_operators"]

# The first word found in an operator's name decides; operators that Jittor fused have the names of all their parts.
_KINDS = (
    ("Depthwise convolution", "depthwise convolution"),
    ("conv_backward", "convolution, backward"),
    ("conv", "convolution, forward"),
    ("matmul", "matrix product"),
    ("reindex_reduce", "scatter (gradient of resize)"),
    ("reindex", "gather (resize, slices)"),
    ("reduce", "reductions (norms, loss, softmax)"),
)
_OTHER = "elementwise"


@dataclass(frozen=True)
class OperatorKind:
    """Calls, seconds, and bytes read and written by all operators of a kind."""

    name: str
    calls: int
    seconds: float
    bytes: float


def profile_operators(step: Callable[[], object]) -> list[OperatorKind]:
    """Runs ``step`` once under Jittor's profiler, which waits for every operator; the slowest kind comes first."""
    jt = backend.start()
    with jt.profile_scope() as report:
        step()
    header, *rows = report
    column = {title: number for number, title in enumerate(header)}
    totals: dict[str, tuple[int, float, float]] = {}
    for row in rows:
        seconds = float(row[column["TotalTime"]]) * 1e-9
        if seconds == 0:  # the description of an operator that a library call has replaced
            continue
        kind = next((kind for word, kind in _KINDS if word in row[column["Name"]]), _OTHER)
        calls, time, moved = totals.get(kind, (0, 0.0, 0.0))
        moved += float(row[column["InOut"]]) * seconds  # the column is a rate, bytes per second
        totals[kind] = (calls + int(row[column["Count"]]), time + seconds, moved)
    kinds = [OperatorKind(name, *figures) for name, figures in totals.items()]
    return sorted(kinds, key=lambda kind: kind.seconds, reverse=True)
