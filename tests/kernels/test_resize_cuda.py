"""The CUDA kernels of resize and loss, run thread by thread on the CPU against NumPy."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import numpy as np
import pytest

from segnext import kernels

CASES = [
    ((4, 6), (32, 48)),
    ((5, 7), (37, 51)),
    ((1, 1), (3, 4)),
    ((1, 9), (8, 9)),
    ((12, 20), (5, 7)),
    ((13, 8), (1, 1)),
    ((3, 10), (9, 4)),
    ((40, 33), (40, 33)),
]
IGNORE = 255


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    path = tmp_path_factory.mktemp("host") / "resize.so"
    source = Path(__file__).with_name("resize_cuda_host.cc")
    flags = ["-std=c++17", "-O1", "-fsanitize=undefined", "-fno-sanitize-recover=all", "-static-libubsan"]
    include = Path(kernels.__file__).parent
    subprocess.run(["g++", *flags, "-shared", "-fPIC", f"-I{include}", "-o", str(path), str(source)], check=True)
    return ctypes.CDLL(str(path))


def pointers(*arrays: np.ndarray) -> list[ctypes.c_void_p]:
    return [ctypes.c_void_p(array.ctypes.data) for array in arrays]


def matrix(old: int, new: int) -> np.ndarray:
    """The resize along one dimension as a (new, old) matrix, in float64."""
    weights = np.zeros((new, old))
    for i in range(new):
        position = min(max((i + 0.5) * old / new - 0.5, 0), old - 1)
        low = int(position)
        weights[i, low] += 1 - (position - low)
        weights[i, min(low + 1, old - 1)] += position - low
    return weights


def empty(*shape: int) -> np.ndarray:
    return np.full(shape, np.nan, "f")


@pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])
@pytest.mark.parametrize(("old", "new"), CASES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_resize_and_its_gradient_are_a_matrix_and_its_transpose(
    library: ctypes.CDLL, old: tuple[int, int], new: tuple[int, int], backwards: bool
) -> None:
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((6, *old)).astype("f"), rng.standard_normal((6, *new)).astype("f")
    y, strips, dx = empty(6, *new), empty(6, old[0], new[1]), empty(6, *old)
    library.run_resize(*pointers(x, dy, y, strips, dx, np.array([6, *old, *new], "int32")), backwards)
    rows, columns = matrix(old[0], new[0]), matrix(old[1], new[1])
    np.testing.assert_allclose(y, rows @ x @ columns.T, atol=1e-4)
    np.testing.assert_allclose(dx, rows.T @ dy @ columns, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])
@pytest.mark.parametrize(("old", "new"), CASES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_losses_and_their_gradient_equal_the_definition(
    library: ctypes.CDLL, old: tuple[int, int], new: tuple[int, int], backwards: bool
) -> None:
    rng = np.random.default_rng(0)
    logits = (3 * rng.standard_normal((2, 5, *old))).astype("f")
    labels = rng.integers(0, 5, (2, *new)).astype("int32")
    labels[rng.random(labels.shape) < 0.2] = IGNORE
    dlosses = rng.standard_normal(labels.shape).astype("f")
    losses, normalisers, strips, dlogits = empty(2, *new), empty(2, *new), empty(5, old[0], new[1]), empty(2, 5, *old)
    arrays = (logits, labels, dlosses, losses, normalisers, strips, dlogits, np.array([2, 5, *old, *new], "int32"))
    library.run_loss(*pointers(*arrays), backwards)

    rows, columns = matrix(old[0], new[0]), matrix(old[1], new[1])
    large = rows @ logits @ columns.T
    softmax = np.exp(large) / np.exp(large).sum(1, keepdims=True)
    one_hot = labels[:, None] == np.arange(5)[:, None, None]
    counted = labels != IGNORE
    np.testing.assert_allclose(losses, -np.log((softmax * one_hot).sum(1) + ~counted) * counted, rtol=1e-4, atol=1e-4)
    slopes = (softmax - one_hot) * (counted * dlosses)[:, None]
    np.testing.assert_allclose(dlogits, rows.T @ slopes @ columns, rtol=1e-4, atol=1e-4)
