"""Packing variables into one and back."""

from __future__ import annotations

import numpy as np

from segnext import backend
from segnext.distributed.all_reduce import buckets_of, pack, unpack

jt = backend.start()

SHAPES = [(3, 1, 2), (1,), (4, 5), (2, 1, 1, 7)]


def arrays() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape).astype(np.float32) for shape in SHAPES]


def test_packed_variables_lie_one_after_the_other() -> None:
    packed = pack([jt.array(array) for array in arrays()])
    assert np.array_equal(packed.numpy(), np.concatenate([array.ravel() for array in arrays()]))


def test_unpacked_variables_are_what_was_packed() -> None:
    variables = unpack(pack([jt.array(array) for array in arrays()]), SHAPES)
    for variable, array in zip(variables, arrays(), strict=True):
        assert variable.shape == list(array.shape)
        assert np.array_equal(variable.numpy(), array)


def test_one_variable_alone_can_be_packed() -> None:
    array = arrays()[2]
    assert np.array_equal(unpack(pack([jt.array(array)]), [array.shape])[0].numpy(), array)


def test_messages_are_limited_in_bytes_and_variables_and_hold_each_variable_once_in_order() -> None:
    sizes = {str(i): 40 << 20 if i == 50 else 4 for i in range(100)}
    buckets = list(buckets_of(sizes))
    assert [name for bucket in buckets for name in bucket] == list(sizes)
    assert [len(bucket) for bucket in buckets] == [32, 18, 1, 32, 17]
