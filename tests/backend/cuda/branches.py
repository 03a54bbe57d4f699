"""Both branches of a block on the CUDA machine and, operator by operator, on the CPU: values and all gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from segnext.kernels.attention import AttentionParameters, attend
from segnext.kernels.cast import cast
from segnext.kernels.mlp import MLPParameters, transform

__all__ = ["apart"]

_KERNELS = [(5, 5), (1, 7), (7, 1), (1, 11), (11, 1), (1, 21), (21, 1)]
_NARROW = ("normal", "first", "gate", "last")
_KEEP = np.array([[1, 1], [0.5, 2]], np.float32)


def apart(jt: Any, branch: str, dtype: str) -> dict[str, float]:
    """How far results and gradients are apart, as shares of the largest value."""
    compute, arrays = {"attention": (_attention, _attention_arrays), "MLP": (_mlp, _mlp_arrays)}[branch]
    drawn = arrays(np.random.default_rng(0))
    dy = np.random.default_rng(1).standard_normal(drawn["x"].shape).astype(np.float32)
    found = []
    for use_cuda in (1, 0):
        jt.flags.use_cuda = use_cuda
        given = {name: jt.array(array) for name, array in drawn.items()}
        used = {name: cast(var, dtype) if name in _NARROW else var for name, var in given.items()}
        y = compute(used, jt.array(_KEEP))
        gradients = jt.grad((y * jt.array(dy)).sum(), list(given.values()))
        found.append({name: var.numpy() for name, var in zip(["y", *given], [y, *gradients], strict=True)})
    cuda, cpu = found
    return {name: float(np.abs(cuda[name] - cpu[name]).max() / np.abs(cpu[name]).max()) for name in cuda}


def _array(rng: np.random.Generator, *shape: int) -> Any:
    """Weights keep what they are convolved with about as large as it was."""
    spread = float(np.prod(shape[1:])) ** -0.5 if shape[2:] and shape[2] != 9 else 1.0
    return (rng.standard_normal(shape) * spread).astype(np.float32)


def _attention_arrays(rng: np.random.Generator, channels: int = 6) -> dict[str, Any]:
    arrays = {name: _array(rng, 2, channels, 9, 21) for name in ("x", "normal")}
    arrays |= {name: _array(rng, channels, channels, 1, 1) for name in ("first", "gate", "last")}
    arrays |= {name: _array(rng, channels) for name in ("scale", "first_bias", "gate_bias", "last_bias")}
    arrays |= {f"weight{i}": _array(rng, channels, 1, *kernel) for i, kernel in enumerate(_KERNELS)}
    return arrays | {f"bias{i}": _array(rng, channels) for i in range(7)}


def _attention(given: dict[str, Any], keep: Any) -> Any:
    pairs = {name: (given[name], given[f"{name}_bias"]) for name in ("first", "gate", "last")}
    depthwise = ([given[f"{name}{i}"] for i in range(7)] for name in ("weight", "bias"))
    parameters = AttentionParameters(**pairs, **dict(zip(("weights", "biases"), depthwise, strict=True)))
    return attend(given["x"], given["normal"], parameters, given["scale"], keep, row=1)


def _mlp_arrays(rng: np.random.Generator, channels: int = 6, hidden: int = 24) -> dict[str, Any]:
    arrays = {name: _array(rng, 2, channels, 9, 21) for name in ("x", "normal")}
    arrays |= {"first": _array(rng, hidden, channels, 1, 1), "last": _array(rng, channels, hidden, 1, 1)}
    arrays |= {name: _array(rng, channels) for name in ("scale", "last_bias")}
    arrays |= {name: _array(rng, hidden) for name in ("first_bias", "depthwise_bias")}
    return arrays | {"depthwise": _array(rng, hidden, 1, 3, 3)}


def _mlp(given: dict[str, Any], keep: Any) -> Any:
    parameters = MLPParameters(
        **{name: (given[name], given[f"{name}_bias"]) for name in ("first", "depthwise", "last")}
    )
    return transform(given["x"], given["normal"], parameters, given["scale"], keep, row=1)
