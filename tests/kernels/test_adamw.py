"""The AdamW kernel equals plain Jittor."""

from __future__ import annotations

import numpy as np
import pytest

from segnext import backend
from segnext.kernels.adamw import TOGETHER, Moved, adamw_reference, adamw_step

jt = backend.start()


SHAPES = [(1,), (5, 3, 3, 3), (37,), (40_000,), (2, 1, 1, 1)]


def drawn(shape: tuple[int, ...], *, rate: float = 0.01, weight_decay: float = 0.1, seed: int = 0) -> Moved:
    rng = np.random.default_rng(seed)
    parameter, gradient, first = (jt.array(rng.standard_normal(shape).astype("f")) for _ in range(3))
    return Moved(parameter, gradient, first, jt.array(rng.random(shape).astype("f")), rate, weight_decay)


@pytest.mark.parametrize(("steps", "scale"), [(1, 1.0), (1000, 0.3)])
def test_a_step_of_parameters_of_any_shape_equals_plain_jittor(steps: int, scale: float) -> None:
    moved = [
        drawn(shape, rate=0.01 * (i + 1), weight_decay=0.1 * (i % 2), seed=i)
        for i, shape in enumerate(SHAPES * (TOGETHER // 2))  # more of each rank than an operator takes
    ]
    options = {"steps": steps, "betas": (0.9, 0.999), "eps": 1e-8, "scale": scale}
    ours, plain = (step(moved, **options) for step in (adamw_step, adamw_reference))
    for found, expected in zip(ours, plain, strict=True):
        for name, one, other in zip(("parameter", "first", "second"), found, expected, strict=True):
            np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-5, atol=1e-6, err_msg=name)


def test_a_parameter_that_never_had_a_gradient_only_decays() -> None:
    zeros, parameter = jt.zeros(100), jt.ones(100)
    moved = [Moved(parameter, zeros, zeros, zeros, rate=0.1, weight_decay=0.5)]
    ((new, first, second),) = adamw_step(moved, steps=1, betas=(0.9, 0.999), eps=1e-8)
    np.testing.assert_allclose(new.numpy(), 0.95, rtol=1e-6)
    assert not first.numpy().any()
    assert not second.numpy().any()
