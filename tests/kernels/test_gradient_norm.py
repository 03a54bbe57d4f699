"""The norm of all gradients equals plain Jittor's and NumPy's."""

from __future__ import annotations

import numpy as np

from segnext import backend
from segnext.kernels.gradient_norm import TOGETHER, gradient_norm, gradient_norm_reference

jt = backend.start()


def test_the_norm_of_arrays_of_any_shape_is_that_of_all_elements_together() -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in ((3,), (5, 4, 3, 2), (100_003,), (1, 1))]
    expected = np.sqrt(sum((array.astype(np.float64) ** 2).sum() for array in arrays))
    gradients = [jt.array(array) for array in arrays]
    np.testing.assert_allclose(gradient_norm(gradients).numpy(), [expected], rtol=1e-6)
    np.testing.assert_allclose(gradient_norm_reference(gradients).numpy(), [expected], rtol=1e-5)


def test_it_repeats_bit_for_bit() -> None:
    gradients = [jt.array(np.random.default_rng(0).standard_normal(1_000_000).astype(np.float32))]
    assert len({gradient_norm(gradients).item() for _ in range(5)}) == 1


def test_more_arrays_than_an_operator_takes_are_all_counted() -> None:
    gradients = [jt.ones(3) for _ in range(TOGETHER + 1)]
    np.testing.assert_allclose(gradient_norm(gradients).numpy(), [np.sqrt(3 * (TOGETHER + 1))], rtol=1e-6)
