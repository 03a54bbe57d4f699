"""AdamW with the recipe's parameter groups, gradient accumulation and a state that can be saved by name.

Jittor's own AdamW computes the same but does not give its moments to a checkpoint, counts every backward pass as a
step, and knows no rate per group.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segnext.backend import Var, jt
from segnext.distributed.all_reduce import all_reduce_means
from segnext.errors import WeightsError
from segnext.kernels.adamw import Moved, adamw_step
from segnext.kernels.gradient_norm import gradient_norm
from segnext.training.schedule import ScheduleSettings

__all__ = ["AdamW", "Group", "create_optimizer", "group_of", "parameter_groups"]


# The official rule: custom keys in this order (longest first), a key matches anywhere in the parameter's name, the
# first match decides. So norms lose their decay, but a norm inside the head would keep it (there is none: they are
# called "gn"), and the two norms of the stem, whose names lack "norm", keep theirs.
_RULES = ("pos_block", "head", "norm")
_FORMER_NAMES = {"exp_avg": "first", "exp_avg_sq": "second"}  # of the moments in checkpoints


@dataclass(frozen=True)
class Group:
    """What a parameter's learning rate is multiplied with, and its decoupled weight decay."""

    lr_factor: float
    weight_decay: float


def group_of(name: str, schedule: ScheduleSettings) -> Group:
    """The group of the parameter with the official ``name``."""
    rule = next((key for key in _RULES if key in name), None)
    return Group(
        lr_factor=schedule.head_lr_factor if rule == "head" else 1.0,
        weight_decay=0.0 if rule in ("norm", "pos_block") else schedule.weight_decay,
    )


def parameter_groups(names: Iterable[str], schedule: ScheduleSettings | None = None) -> dict[Group, list[str]]:
    """The names by group, in their order; without a schedule, as the recipe groups them."""
    schedule = schedule or ScheduleSettings()
    groups: dict[Group, list[str]] = {}
    for name in names:
        groups.setdefault(group_of(name, schedule), []).append(name)
    return groups


def create_optimizer(model: Any, schedule: ScheduleSettings) -> AdamW:
    """AdamW over the parameters of ``model`` in the groups of ``schedule``."""
    parameters = model.parameters_to_train()
    return AdamW(parameters, parameter_groups(parameters, schedule), betas=schedule.betas)


class AdamW:
    """Decoupled weight decay (Loshchilov and Hutter, ICLR 2019): decay first, then the Adam step, as PyTorch's.

    Args:
        parameters: variables by name.
        groups: the names by group, all names exactly once.
        betas, eps: of the moments.
    """

    def __init__(
        self,
        parameters: Mapping[str, Var],
        groups: Mapping[Group, Sequence[str]],
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        self._group = {name: group for group, names in groups.items() for name in names}
        assert self._group.keys() == parameters.keys()
        self.parameters = dict(parameters)
        self.betas = betas
        self.eps = eps
        self.steps = 0
        self._exp_avg = {name: _zeros(p) for name, p in parameters.items()}
        self._exp_avg_sq = {name: _zeros(p) for name, p in parameters.items()}
        self._gradients: dict[str, Var] = {}
        self._scale = 1.0  # of the gradients, to be applied yet

    def backward(self, loss: Var) -> None:
        """Adds the gradients of ``loss`` (scalar) to those gathered since the last step."""
        assert self._scale == 1, "gradients that were scaled take a step first"
        gradients = jt.grad(loss, list(self.parameters.values()), False)
        for name, gradient in zip(self.parameters, gradients, strict=True):
            gradient = gradient.stop_grad()
            self._gradients[name] = self._gradients[name] + gradient if name in self._gradients else gradient

    def all_reduce_gradients(self) -> None:
        """Replaces the gathered gradients by their means over all ranks."""
        self._gradients = all_reduce_means(self._gradients)

    def scale_gradients(self, factor: float) -> None:
        """Multiplies all gathered gradients by ``factor``, once they are used."""
        self._scale *= factor

    def zero_grad(self) -> None:
        """Drops the gathered gradients, which leaves out a step."""
        self._gradients = {}
        self._scale = 1.0

    def gradient_norm(self) -> Var:
        """L2 norm of all gathered gradients together, shape (1,)."""
        norm = gradient_norm(self._gradients.values())
        return norm if self._scale == 1 else norm * self._scale

    def step(self, lr: float) -> None:
        """Moves every parameter by the gathered gradients with base rate ``lr`` and drops them."""
        self.steps += 1
        moved = [
            Moved(
                self.parameters[name],
                gradient,
                self._exp_avg[name],
                self._exp_avg_sq[name],
                rate=lr * self._group[name].lr_factor,
                weight_decay=self._group[name].weight_decay,
            )
            for name, gradient in self._gradients.items()
        ]
        stepped = adamw_step(moved, steps=self.steps, betas=self.betas, eps=self.eps, scale=self._scale)
        for old, new in zip(moved, stepped, strict=True):
            for variable, value in zip((old.parameter, old.exp_avg, old.exp_avg_sq), new, strict=True):
                variable.update(value)
        self.zero_grad()

    def moments(self) -> dict[str, Var]:
        """Both moments of every parameter as ``exp_avg/NAME`` and ``exp_avg_sq/NAME``, PyTorch's names for them."""
        moments = {"exp_avg": self._exp_avg, "exp_avg_sq": self._exp_avg_sq}
        return {f"{kind}/{name}": var for kind, variables in moments.items() for name, var in variables.items()}

    def state(self) -> dict[str, NDArray[np.float32]]:
        """``moments`` as arrays; ``steps`` is kept by the caller."""
        return {name: var.numpy() for name, var in self.moments().items()}

    def load_state(self, arrays: Mapping[str, NDArray[np.float32]], *, steps: int) -> None:
        """Restores ``state()``, also under the names that files of earlier versions use.

        Raises:
            WeightsError: a moment is missing or of another shape.
        """
        for name, var in self.moments().items():
            kind, _, parameter = name.partition("/")
            array = arrays.get(name, arrays.get(f"{_FORMER_NAMES[kind]}/{parameter}"))
            if array is None or array.shape != tuple(var.shape):
                raise WeightsError(f"the optimizer's {kind} of {parameter} is missing or of another shape")
            var.assign(np.ascontiguousarray(array))
        self.steps = steps


def _zeros(like: Var) -> Var:
    return jt.array(np.zeros(like.shape, np.float32)).stop_grad()
