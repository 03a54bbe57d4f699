"""A step of AdamW as one operator: in plain operators, the optimizer is most of the graph of a training step."""

from __future__ import annotations

from pathlib import Path

from segnext.backend import Var, jt

__all__ = ["adamw_reference", "adamw_step"]


_HEADER = "".join(Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("each.h", "adamw.h"))
_SOURCE = """
segnext::launch(segnext::AdamW{in0_p, in1_p, in2_p, in3_p, out0_p, out1_p, out2_p,
    (float)data["beta1"], (float)data["rest1"], (float)data["beta2"], (float)data["rest2"],
    (float)data["eps"], (float)data["kept"], (float)data["rate"], (float)data["unbias"]}, in0->num);
"""


def adamw_step(
    parameter: Var,
    gradient: Var,
    moments: tuple[Var, Var],
    *,
    steps: int,
    rate: float,
    weight_decay: float,
    betas: tuple[float, float],
    eps: float,
) -> tuple[Var, Var, Var]:
    """Decays the parameter by rate·weight_decay of itself, then takes the Adam step (Loshchilov and Hutter, ICLR 2019).

    Args:
        parameter, gradient: of the same shape, float32.
        moments: running means of the gradient and its square, as they were before.
        steps: counts this one, from 1.

    Returns:
        The new parameter, first and second moment.
    """
    data = {
        "beta1": betas[0],
        "rest1": 1 - betas[0],
        "beta2": betas[1],
        "rest2": 1 - betas[1],
        "eps": eps,
        "kept": 1 - rate * weight_decay,
        "rate": rate / (1 - betas[0] ** steps),
        "unbias": (1 - betas[1] ** steps) ** -0.5,
    }
    shapes, dtypes, inputs = [parameter.shape] * 3, ["float32"] * 3, [parameter, gradient, *moments]
    if jt.flags.use_cuda:
        new = jt.code(shapes, dtypes, inputs, cuda_header=_HEADER, cuda_src=_SOURCE, data=data)
    else:
        new = jt.code(shapes, dtypes, inputs, cpu_header=_HEADER, cpu_src=_SOURCE, data=data)
    return tuple(new)


def adamw_reference(
    parameter: Var,
    gradient: Var,
    moments: tuple[Var, Var],
    *,
    steps: int,
    rate: float,
    weight_decay: float,
    betas: tuple[float, float],
    eps: float,
) -> tuple[Var, Var, Var]:
    """The same in plain Jittor: what the kernel is tested against."""
    first = betas[0] * moments[0] + (1 - betas[0]) * gradient
    second = betas[1] * moments[1] + (1 - betas[1]) * gradient * gradient
    denominator = jt.sqrt(second) / (1 - betas[1] ** steps) ** 0.5 + eps
    return parameter * (1 - rate * weight_decay) - rate / (1 - betas[0] ** steps) * first / denominator, first, second
