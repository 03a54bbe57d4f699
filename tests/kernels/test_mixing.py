"""The fused second half of the MLP equals plain Jittor, forward and backward."""

from __future__ import annotations

import numpy as np
import pytest

from segnext import backend
from segnext.kernels.mixing import mix, mix_reference

jt = backend.start()


@pytest.mark.parametrize("channels", [3, 40])
@pytest.mark.parametrize("size", [(1, 1), (7, 19), (16, 32)], ids=lambda s: f"{s[0]}x{s[1]}")
def test_values_and_gradients_equal_plain_jittor(size: tuple[int, int], channels: int) -> None:
    rng = np.random.default_rng(0)
    shapes = [(2, channels, *size), (channels, 1, 3, 3), (channels,), (5, channels, 1, 1), (5,)]
    inputs = [jt.array(rng.standard_normal(shape).astype("f")) for shape in shapes]
    slope = jt.array(rng.standard_normal((2, 5, *size)).astype("f"))
    results = []
    for function in (mix, mix_reference):
        z = function(*inputs)
        gradients = jt.grad((z * slope).sum(), inputs, True)
        results.append([z.numpy(), *(gradient.numpy() for gradient in gradients)])
    for name, found, expected in zip(
        ("z", "dx", "dkernels", "dkernel_bias", "dweight", "dbias"), *results, strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3, err_msg=name)


def test_bfloat16_is_computed_in_float32() -> None:
    if backend.device_name() == "cuda":
        pytest.skip("there, the maps between are bfloat16 as well")
    rng = np.random.default_rng(0)
    shapes = [(1, 4, 5, 6), (4, 1, 3, 3), (4,), (5, 4, 1, 1), (5,)]
    exact = [jt.array(rng.standard_normal(shape).astype("f")).bfloat16().float32() for shape in shapes]
    z = mix(exact[0].bfloat16(), exact[1], exact[2], exact[3].bfloat16(), exact[4].bfloat16())
    assert z.dtype == "bfloat16"
    np.testing.assert_allclose(z.float32().numpy(), mix(*exact).numpy(), rtol=2**-8, atol=1e-5)
