"""The depthwise kernels equal plain Jittor, forward and backward."""

from __future__ import annotations

import numpy as np
import pytest

from segnext import backend
from segnext.kernels.depthwise import depthwise_conv, depthwise_reference

jt = backend.start()

MSCAN_KERNELS = [(3, 3), (5, 5), (1, 7), (7, 1), (1, 11), (11, 1), (1, 21), (21, 1)]
GENERAL = (3, 9)


@pytest.mark.parametrize("kernel", [*MSCAN_KERNELS, GENERAL], ids=lambda k: f"{k[0]}x{k[1]}")
@pytest.mark.parametrize("size", [(1, 1), (7, 19), (16, 32)], ids=lambda s: f"{s[0]}x{s[1]}")
def test_values_and_gradients_equal_plain_jittor(kernel: tuple[int, int], size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    shapes = [(2, 3, *size), (3, 1, *kernel), (3,)]
    x, weight, bias = (jt.array(rng.standard_normal(shape).astype("f")) for shape in shapes)
    slope = jt.array(rng.standard_normal(shapes[0]).astype("f"))
    results = []
    for convolve in (depthwise_conv, depthwise_reference):
        y = convolve(x, weight, bias)
        gradients = jt.grad((y * slope).sum(), [x, weight, bias], True)
        results.append([y.numpy(), *(gradient.numpy() for gradient in gradients)])
    for name, found, expected in zip(("y", "dx", "dweight", "dbias"), *results, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4, err_msg=name)


def test_a_known_filter_shifts_each_channel_its_own_way() -> None:
    x = np.arange(12, dtype="f").reshape(1, 2, 2, 3)
    weight = np.zeros((2, 1, 1, 3), "f")
    weight[0, 0, 0, 0] = 1  # takes the left neighbour
    weight[1, 0, 0, 2] = 1  # takes the right neighbour
    y = depthwise_conv(jt.array(x), jt.array(weight), jt.array(np.array([0, 100], "f"))).numpy()
    np.testing.assert_array_equal(y[0, 0], [[0, 0, 1], [0, 3, 4]])
    np.testing.assert_array_equal(y[0, 1], [[107, 108, 100], [110, 111, 100]])


@pytest.mark.gpu
def test_gradients_on_a_gpu_are_the_same_bits_every_time() -> None:
    if backend.device_name() != "cuda":
        pytest.skip("no CUDA device")
    rng = np.random.default_rng(0)
    x, weight, bias = (rng.standard_normal(shape).astype("f") for shape in [(4, 8, 65, 70), (8, 1, 5, 5), (8,)])
    results = []
    for _ in range(2):
        variables = [jt.array(array) for array in (x, weight, bias)]
        gradients = jt.grad(depthwise_conv(*variables).sqr().sum(), variables)
        results.append([gradient.numpy() for gradient in gradients])
    for first, second in zip(*results, strict=True):
        np.testing.assert_array_equal(first, second)
