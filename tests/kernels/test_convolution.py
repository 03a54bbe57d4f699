"""The convolution kernels equal plain Jittor, forward and backward."""

from __future__ import annotations

import numpy as np
import pytest

from segnext import backend
from segnext.kernels.convolution import conv, conv_reference

jt = backend.start()

# (channels in, channels, kernel, stride, padding)
LAYERS = {
    "pointwise": (5, 9, (1, 1), 1, 0),
    "wide pointwise": (150, 40, (1, 1), 1, 0),
    "stem": (3, 16, (3, 3), 2, 1),
    "patch embedding": (33, 7, (3, 3), 2, 1),
    "same 3x3": (4, 5, (3, 3), 1, 1),
    "patches": (3, 8, (4, 4), 4, 0),
    "stride above the kernel": (3, 4, (1, 2), 3, 0),
    "asymmetric": (2, 3, (5, 2), 2, 2),
}


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("size", [(5, 4), (7, 19), (16, 32)], ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize("layer", LAYERS)
def test_values_and_gradients_equal_plain_jittor(layer: str, size: tuple[int, int], bias: bool) -> None:
    channels_in, channels, kernel, stride, padding = LAYERS[layer]
    rng = np.random.default_rng(0)
    shapes = [(2, channels_in, *size), (channels, channels_in, *kernel), (channels,)][: 3 if bias else 2]
    arguments = [jt.array(rng.standard_normal(shape).astype("f")) for shape in shapes]
    slope = None
    results = []
    for convolve in (conv, conv_reference):
        y = convolve(*arguments, stride=stride, padding=padding)
        slope = jt.array(rng.standard_normal(y.shape).astype("f")) if slope is None else slope
        gradients = jt.grad((y * slope).sum(), arguments, True)
        results.append([y.numpy(), *(gradient.numpy() for gradient in gradients)])
    for name, found, expected in zip(("y", "dx", "dweight", "dbias"), *results, strict=False):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4, err_msg=name)
    assert results[0][0].shape == results[1][0].shape
