"""The AdamW kernel equals plain Jittor."""

from __future__ import annotations

import numpy as np
import pytest

from segnext import backend
from segnext.kernels.adamw import adamw_reference, adamw_step

jt = backend.start()


@pytest.mark.parametrize("shape", [(1,), (37,), (5, 3, 3, 3), (40_000,)], ids=lambda s: "x".join(map(str, s)))
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("steps", [1, 1000])
def test_a_step_equals_plain_jittor(shape: tuple[int, ...], weight_decay: float, steps: int) -> None:
    rng = np.random.default_rng(0)
    parameter, gradient, first = (jt.array(rng.standard_normal(shape).astype("f")) for _ in range(3))
    second = jt.array(rng.random(shape).astype("f"))
    results = [
        step(
            parameter,
            gradient,
            (first, second),
            steps=steps,
            rate=0.01,
            weight_decay=weight_decay,
            betas=(0.9, 0.999),
            eps=1e-8,
        )
        for step in (adamw_step, adamw_reference)
    ]
    for name, found, expected in zip(("parameter", "first", "second"), *results, strict=True):
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-5, atol=1e-6, err_msg=name)


def test_a_parameter_that_never_had_a_gradient_only_decays() -> None:
    zeros, parameter = jt.zeros(100), jt.ones(100)
    settings = {"steps": 1, "rate": 0.1, "weight_decay": 0.5, "betas": (0.9, 0.999), "eps": 1e-8}
    new, first, second = adamw_step(parameter, zeros, (zeros, zeros), **settings)
    np.testing.assert_allclose(new.numpy(), 0.95, rtol=1e-6)
    assert not first.numpy().any()
    assert not second.numpy().any()
