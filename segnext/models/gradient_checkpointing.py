"""A part of the network that keeps only its input and computes itself again in the backward pass (Chen et al., Training
Deep Nets with Sublinear Memory Cost, 2016).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from segnext.backend import Function, Var, jt
from segnext.models.layers import BatchNorm
from segnext.models.tensor_shapes import is_running_statistic

__all__ = ["checkpointed"]


def checkpointed(module: Any, x: Var, *constants: Var) -> Var:
    """``module(x, *constants)``: the same values, gradients and running statistics for less memory and a second pass.

    Args:
        module: maps x to one array, and draws no random numbers.
        constants: get no gradient.
    """
    if not module.is_training() or jt.flags.no_grad:
        return module(x, *constants)
    return _Checkpointed(module, constants)(x, *_trained(module))


class _Checkpointed(Function):
    def __init__(self, module: Any, constants: tuple[Var, ...]) -> None:
        super().__init__()
        self._module, self._constants = (module,), constants

    def execute(self, x: Var, *_: Var) -> Var:
        (module,) = self._module
        self._input = x.detach()
        with jt.no_grad():
            y = module(x, *self._constants)
        # Jittor computes late and in an order of its own: without these calls to sync, all passes meet in memory.
        y.sync()
        return y

    def grad(self, dy: Var) -> tuple[Var, ...]:
        (module,) = self._module
        dy = dy.detach()
        dy.sync()
        x = self._input.clone()
        x.start_grad()
        inputs = [x, *_trained(module)]
        with jt.enable_grad(), _statistics_kept(module):
            gradients = jt.grad((module(x, *self._constants) * dy).sum(), inputs, False)
        jt.sync(gradients)
        return tuple(gradients)


def _trained(module: Any) -> list[Var]:
    return [var for name, var in module.named_parameters() if not is_running_statistic(name)]


@contextmanager
def _statistics_kept(module: Any) -> Iterator[None]:
    """Leaves running statistics alone, which the first pass has updated."""
    norms = [each for each in module.modules() if isinstance(each, BatchNorm)]
    for norm in norms:
        norm.tracking = False
    try:
        yield
    finally:
        for norm in norms:
            norm.tracking = True
