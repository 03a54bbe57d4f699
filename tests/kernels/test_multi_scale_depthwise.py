"""The attention in one operator equals its convolutions one by one, forward and backward."""

from __future__ import annotations

import numpy as np
import pytest

from segnext import backend
from segnext.kernels.multi_scale_depthwise import multi_scale_depthwise, multi_scale_depthwise_reference

jt = backend.start()

KERNELS = [(5, 5), (1, 7), (7, 1), (1, 11), (11, 1), (1, 21), (21, 1)]


@pytest.mark.parametrize("channels", [3, 16, 45])
@pytest.mark.parametrize("size", [(1, 1), (4, 4), (7, 19), (24, 30)], ids=lambda s: f"{s[0]}x{s[1]}")
def test_values_and_gradients_equal_the_single_convolutions(channels: int, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    shapes = [(2, channels, *size), *((channels, 1, *kernel) for kernel in KERNELS), *[(channels,)] * 7]
    variables = [jt.array(rng.standard_normal(shape).astype("f") / 3) for shape in shapes]
    slope = jt.array(rng.standard_normal(shapes[0]).astype("f"))
    results = []
    for function in (multi_scale_depthwise, multi_scale_depthwise_reference):
        y = function(variables[0], variables[1:8], variables[8:])
        gradients = jt.grad((y * slope).sum(), variables, True)
        results.append([y.numpy(), *(gradient.numpy() for gradient in gradients)])
    for i, (found, expected) in enumerate(zip(*results, strict=True)):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * scale, err_msg=f"result {i}")
