"""Casts round to the nearest, ties to even, and so do their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from segnext import backend
from segnext.kernels.cast import TOGETHER, cast, cast_all

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


@pytest.mark.parametrize("dtype", CASES)
@pytest.mark.parametrize("count", [1, 2, TOGETHER + 3])
def test_many_arrays_are_cast_as_each_by_itself_and_so_are_their_gradients(dtype: str, count: int) -> None:
    rng = np.random.default_rng(0)
    arrays = [jt.array(rng.standard_normal((1 + i % 3, 2 + i % 5)).astype(np.float32)) for i in range(count)]
    factors = [rng.standard_normal(tuple(each.shape)).astype(np.float32) for each in arrays]

    def values_and_gradients(narrow: list[Any]) -> list[Any]:
        wide = [cast(each, "float32") for each in narrow]
        total = sum((each * jt.array(factor)).sum() for each, factor in zip(wide, factors, strict=True))
        return [*wide, *jt.grad(total, arrays)]

    together = values_and_gradients(cast_all(arrays, dtype))
    one_by_one = values_and_gradients([cast(each, dtype) for each in arrays])
    for found, expected in zip(together, one_by_one, strict=True):
        np.testing.assert_array_equal(found.numpy(), expected.numpy())


def test_what_is_not_used_gets_no_gradient_and_the_others_theirs() -> None:
    used, unused = (jt.array(np.ones(3, np.float32)) for _ in range(2))
    narrow = cast_all([used, unused], "bfloat16")
    first, second = jt.grad(cast(narrow[0], "float32") * 2, [used, unused])
    assert (first.numpy() == 2).all()
    assert not second.numpy().any()


def test_gradients_that_are_wide_already_stay_as_they_are() -> None:
    class Wide(jt.Function):  # type: ignore[misc]
        def execute(self, x: Any) -> Any:
            return cast(x, "float32")

        def grad(self, dy: Any) -> Any:
            return dy  # float32, though x is narrow

    first, second = (jt.array(np.ones(3, np.float32)) for _ in range(2))
    wide, narrow = cast_all([first, second], "bfloat16")
    found = jt.grad(Wide()(wide) * (1 + 2**-20) + cast(narrow, "float32") * 3, [first, second])
    assert (found[0].numpy() == np.float32(1 + 2**-20)).all()
    assert (found[1].numpy() == 3).all()
