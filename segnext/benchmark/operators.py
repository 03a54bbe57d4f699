"""Where the time of a step goes, operator by operator, as Jittor's profiler sees it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from segnext.backend import jt

__all__ = ["OperatorKind", "kind_of", "profile_operators"]

# The first pattern found in an operator's name decides; operators that Jittor fused have the names of all their parts.
_KINDS = (
    (r"Depthwise convolution|segnext::attend", "depthwise convolution"),
    (r"segnext::factorise|matmul", "matrix products (NMF)"),
    (r"segnext::cross_entropy", "loss"),
    (r"segnext::resize", "resize"),
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
