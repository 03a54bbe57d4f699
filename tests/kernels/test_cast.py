"""Casts round to the nearest, ties to even, and so do their gradients."""

from __future__ import annotations

import numpy as np
import pytest

from segnext import backend
from segnext.kernels.cast import cast

jt = backend.start()

# exact; a tie to the even neighbour below, and above; just above a tie; negative; beyond the largest; smallest normal
CASES = {
    "bfloat16": ([1, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -1 - 3 * 2**-8, 3.3896e38, 2.0**-126], 2.0**-7),
    "float16": ([1, 1 + 2**-11, 1 + 3 * 2**-11, 1 + 2**-11 + 2**-20, -1 - 3 * 2**-11, 1e5, 2.0**-14], 2.0**-10),
}


@pytest.mark.parametrize("dtype", CASES)
def test_values_are_rounded_to_the_nearest_and_ties_to_even(dtype: str) -> None:
    values, unit = CASES[dtype]
    found = cast(cast(jt.array(np.array(values, np.float32)), dtype), "float32").numpy()
    largest = {"bfloat16": np.float32(3.3895314e38), "float16": np.inf}[dtype]
    expected = [1, 1, 1 + 2 * unit, 1 + unit, -1 - 2 * unit, largest, values[-1]]
    np.testing.assert_array_equal(found, np.array(expected, np.float32))


@pytest.mark.parametrize("dtype", CASES)
def test_the_gradient_is_rounded_on_its_way_back_and_has_the_type_of_the_input(dtype: str) -> None:
    values, unit = CASES[dtype]
    x = jt.array(np.zeros(1, np.float32)).cast(dtype)
    gradient = jt.grad(cast(x, "float32") * values[2], x)
    assert gradient.dtype == dtype
    assert float(gradient.float32().item()) == 1 + 2 * unit


def test_nan_stays_nan_and_infinity_stays_infinity() -> None:
    values = jt.array(np.array([np.nan, np.inf, -np.inf], np.float32))
    np.testing.assert_array_equal(cast(cast(values, "bfloat16"), "float32").numpy(), [np.nan, np.inf, -np.inf])


def test_an_array_of_the_type_already_is_left_alone() -> None:
    x = jt.array(np.zeros(3, np.float32))
    assert cast(x, "float32") is x
