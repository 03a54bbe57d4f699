"""A step of AdamW for many parameters in one operator: in plain operators it is most of a training step's graph."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segnext.backend import Var, jt

__all__ = ["Moved", "adamw_reference", "adamw_step"]

TOGETHER = 32  # parameters of an operator

_HEADER = "".join(
    Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("each.h", "several.h", "adamw.h")
)
_ONE = """
    {{in{0}_p, in{1}_p, in{2}_p, in{3}_p, out{4}_p, out{5}_p, out{6}_p, beta1, rest1, beta2, rest2, eps, scale,
      (float)data["kept{7}"], (float)data["rate{7}"], unbias}},"""
_STEPS = "".join(_ONE.format(*range(4 * i, 4 * i + 4), *range(3 * i, 3 * i + 3), i) for i in range(TOGETHER))
_SOURCE = f"""
const float beta1 = data["beta1"], rest1 = data["rest1"], beta2 = data["beta2"], rest2 = data["rest2"];
const float eps = data["eps"], scale = data["scale"], unbias = data["unbias"];
const segnext::AdamW steps[] = {{{_STEPS}
}};
const size_t counts[] = {{{", ".join(f"(size_t)in{4 * i}->num" for i in range(TOGETHER))}}};
segnext::launch(steps, counts);
"""


@dataclass(frozen=True)
class Moved:
    """A parameter that takes a step.

    Attributes:
        parameter, gradient: of the same shape, float32.
        exp_avg, exp_avg_sq: running means of the gradient and its square, as they were before.
        rate, weight_decay: of this parameter.
    """

    parameter: Var
    gradient: Var
    exp_avg: Var
    exp_avg_sq: Var
    rate: float
    weight_decay: float

    @property
    def arrays(self) -> list[Var]:
        return [self.parameter, self.gradient, self.exp_avg, self.exp_avg_sq]


def adamw_step(
    moved: Sequence[Moved], *, steps: int, betas: tuple[float, float], eps: float, scale: float = 1.0
) -> list[tuple[Var, Var, Var]]:
    """Decays each parameter by rate·weight_decay of itself, then takes the Adam step (Loshchilov, Hutter; ICLR 2019).

    Args:
        moved: the parameters.
        steps: counts this one, from 1.
        scale: what all gradients are multiplied with.

    Returns:
        The new parameter, first and second moment of each.
    """
    of_rank: defaultdict[int, list[int]] = defaultdict(list)  # an operator is compiled for the ranks of its arrays
    for number, one in enumerate(moved):
        of_rank[one.parameter.ndim].append(number)
    result: dict[int, tuple[Var, Var, Var]] = {}
    for numbers in of_rank.values():
        for first in range(0, len(numbers), TOGETHER):
            own = numbers[first : first + TOGETHER]
            chunk = [moved[number] for number in own]
            if len(chunk) < TOGETHER:
                chunk += [min(chunk, key=lambda one: one.parameter.numel())] * (TOGETHER - len(chunk))  # to no effect
            values = _step(chunk, steps=steps, betas=betas, eps=eps, scale=scale)
            result.update(zip(own, zip(values[::3], values[1::3], values[2::3], strict=True), strict=False))
    return [result[number] for number in range(len(moved))]


def _step(chunk: Sequence[Moved], *, steps: int, betas: tuple[float, float], eps: float, scale: float) -> list[Var]:
    data = {
        "beta1": betas[0],
        "rest1": 1 - betas[0],
        "beta2": betas[1],
        "rest2": 1 - betas[1],
        "eps": eps,
        "scale": scale,
        "unbias": (1 - betas[1] ** steps) ** -0.5,
    }
    for i, one in enumerate(chunk):
        data |= {f"kept{i}": 1 - one.rate * one.weight_decay, f"rate{i}": one.rate / (1 - betas[0] ** steps)}
    inputs = [array for one in chunk for array in one.arrays]
    shapes = [one.parameter.shape for one in chunk for _ in range(3)]
    dtypes = ["float32"] * len(shapes)
    if jt.flags.use_cuda:
        return list(jt.code(shapes, dtypes, inputs, cuda_header=_HEADER, cuda_src=_SOURCE, data=data))
    return list(jt.code(shapes, dtypes, inputs, cpu_header=_HEADER, cpu_src=_SOURCE, data=data))


def adamw_reference(
    moved: Sequence[Moved], *, steps: int, betas: tuple[float, float], eps: float, scale: float = 1.0
) -> list[tuple[Var, Var, Var]]:
    """The same in plain Jittor: what the kernel is tested against."""
    result = []
    for one in moved:
        gradient = one.gradient * scale
        first = betas[0] * one.exp_avg + (1 - betas[0]) * gradient
        second = betas[1] * one.exp_avg_sq + (1 - betas[1]) * gradient * gradient
        denominator = jt.sqrt(second) / (1 - betas[1] ** steps) ** 0.5 + eps
        decayed = one.parameter * (1 - one.rate * one.weight_decay)
        result.append((decayed - one.rate / (1 - betas[0] ** steps) * first / denominator, first, second))
    return result
