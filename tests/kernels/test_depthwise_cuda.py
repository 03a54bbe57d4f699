"""The CUDA kernels of the depthwise convolution, run thread by thread on the CPU against NumPy."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segnext import kernels

MSCAN_KERNELS = [(3, 3), (5, 5), (1, 7), (7, 1), (1, 11), (11, 1), (1, 21), (21, 1)]
GENERAL = (3, 9)
Run = Callable[..., dict[str, np.ndarray]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Calls the kernels; ``fixed=False`` takes the general case for any size."""
    library = tmp_path_factory.mktemp("host") / "host.so"
    source = Path(__file__).with_name("depthwise_cuda_host.cc")
    include = Path(kernels.__file__).parent
    flags = ["-std=c++17", "-O1", "-mf16c", "-fsanitize=undefined", "-fno-sanitize-recover=all", "-static-libubsan"]
    flags += ["-Wno-unknown-pragmas", "-shared", "-fPIC"]
    subprocess.run(["g++", *flags, f"-I{include}", "-o", str(library), str(source)], check=True)
    functions = ctypes.CDLL(str(library))

    def call(
        x: np.ndarray,
        dy: np.ndarray,
        weight: np.ndarray,
        bias: np.ndarray,
        *,
        shares: int,
        side: int,
        fixed: bool = True,
        backwards: bool = False,
        dtype: str = "float32",
    ) -> dict[str, np.ndarray]:
        empty = {"y": x, "dx": x, "dweight": weight, "dbias": bias}
        nans = {name: np.full(like.nbytes, 0xFF, np.uint8) for name, like in empty.items()}
        results = {name: nans[name].view(like.dtype).reshape(like.shape) for name, like in empty.items()}
        partial = np.full((x.shape[1], shares, weight[0].size + 1), np.nan, "f")
        sizes = np.array([*x.shape, *weight.shape[2:]], np.int32)
        arrays: list[Any] = [x, dy, weight, bias, *results.values(), partial, sizes]
        run_all = getattr(functions, f"run_{dtype}")
        run_all(*(ctypes.c_void_p(array.ctypes.data) for array in arrays), shares, side, fixed, backwards)
        return results

    return call


def draw(kernel: tuple[int, int], size: tuple[int, int], *, batch: int = 2) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    shapes = [(batch, 3, *size), (batch, 3, *size), (3, 1, *kernel), (3,)]
    return tuple(rng.standard_normal(shape).astype("f") for shape in shapes)


def reference(x: np.ndarray, dy: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> dict[str, np.ndarray]:
    """Straight from the definition, in float64."""
    x, dy, weight, bias = (array.astype(np.float64) for array in (x, dy, weight, bias))
    (kh, kw), (height, width) = weight.shape[2:], x.shape[2:]
    padding = ((0, 0), (0, 0), (kh // 2, kh // 2), (kw // 2, kw // 2))
    padded, dpadded = np.pad(x, padding), np.zeros_like(np.pad(x, padding))
    y = np.broadcast_to(bias[:, None, None], x.shape).copy()
    dweight = np.zeros_like(weight)
    for i in range(kh):
        for j in range(kw):
            window = (..., slice(i, i + height), slice(j, j + width))
            tap = weight[:, 0, i, j][:, None, None]
            y += tap * padded[window]
            dpadded[window] += tap * dy
            dweight[:, 0, i, j] = (padded[window] * dy).sum((0, 2, 3))
    dx = dpadded[..., kh // 2 : kh // 2 + height, kw // 2 : kw // 2 + width]
    return {"y": y, "dx": dx, "dweight": dweight, "dbias": dy.sum((0, 2, 3))}


@pytest.mark.parametrize("size", [(1, 1), (7, 19), (16, 16), (33, 40), (64, 5)], ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize("side", [16, 32])
@pytest.mark.parametrize("kernel", [*MSCAN_KERNELS, GENERAL], ids=lambda k: f"{k[0]}x{k[1]}")
def test_values_and_gradients_equal_the_definition(
    run: Run, kernel: tuple[int, int], side: int, size: tuple[int, int]
) -> None:
    arrays = draw(kernel, size)
    expected = reference(*arrays)
    for name, found in run(*arrays, shares=1, side=side).items():
        np.testing.assert_allclose(found, expected[name], rtol=1e-4, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("kernel", [*MSCAN_KERNELS, (1, 1), (9, 37)], ids=lambda k: f"{k[0]}x{k[1]}")
def test_the_general_case_is_the_same_function(run: Run, kernel: tuple[int, int]) -> None:
    arrays = draw(kernel, (18, 35))
    expected = reference(*arrays)
    for name, found in run(*arrays, shares=2, side=16, fixed=False).items():
        np.testing.assert_allclose(found, expected[name], rtol=1e-4, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("shares", [2, 3, 8, 12])
@pytest.mark.parametrize("kernel", [(5, 5), (1, 21)], ids=lambda k: f"{k[0]}x{k[1]}")
def test_any_number_of_shares_adds_up_to_the_same(run: Run, kernel: tuple[int, int], shares: int) -> None:
    arrays = draw(kernel, (20, 33), batch=2)  # 2 x 6 tiles of 16 x 16
    expected = reference(*arrays)
    found = run(*arrays, shares=shares, side=16)
    np.testing.assert_allclose(found["dweight"], expected["dweight"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found["dbias"], expected["dbias"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("fixed", [True, False], ids=["fixed", "general"])
def test_threads_do_not_depend_on_each_other_within_a_step(run: Run, fixed: bool) -> None:
    arrays = draw((5, 5), (20, 33))
    forwards, backwards = (run(*arrays, shares=3, side=16, fixed=fixed, backwards=turn) for turn in (False, True))
    for name, found in forwards.items():
        np.testing.assert_array_equal(found, backwards[name], err_msg=name)


@pytest.mark.parametrize("kernel", [(3, 3), (1, 21), GENERAL], ids=lambda k: f"{k[0]}x{k[1]}")
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_pixels_are_summed_in_float32_and_rounded_once(run: Run, kernel: tuple[int, int], dtype: str) -> None:
    encode, decode = CODES[dtype]
    x, dy, weight, bias = draw(kernel, (20, 33))
    narrow = [encode(x), encode(dy)]
    found = run(*narrow, weight, bias, shares=3, side=16, dtype=dtype)
    expected = reference(*(decode(array) for array in narrow), weight, bias)
    for name in ("dweight", "dbias"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-4, err_msg=name)
    unit = {"bfloat16": 2.0**-8, "float16": 2.0**-11}[dtype]
    for name in ("y", "dx"):
        np.testing.assert_allclose(decode(found[name]), expected[name], rtol=1.01 * unit, atol=1e-5, err_msg=name)


def as_bfloat16(array: np.ndarray) -> np.ndarray:
    """Bits, cut off: any value that a bfloat16 has will do."""
    return (array.view(np.uint32) >> 16).astype(np.uint16)


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)


CODES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]] = {
    "bfloat16": (as_bfloat16, from_bfloat16),
    "float16": (lambda array: array.astype(np.float16), lambda array: array.astype(np.float32)),
}
