"""The project's own kernels under the compilers' sanitizers, to which every CUDA thread is a thread.

A driver per kernel compares its results with the definition; ThreadSanitizer sees a missing barrier, AddressSanitizer
and UBSan see what reads or writes too far.
"""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from segnext.kernels import (
    adamw,
    attention,
    cast,
    convolution,
    depthwise,
    gradient_norm,
    labels,
    mlp,
    nmf,
    norm,
    residual,
    resize,
)
from segnext.kernels.products import MATRICES
from tests.backend.cuda.machine import ProgramBuilder

DRIVERS = Path(__file__).with_name("kernels")
KERNELS = {
    "adamw": adamw._HEADER,
    "attention": attention._HEADER,
    "bias": convolution._CUDA_BIAS,
    "cast": cast._HEADER,
    "depthwise": depthwise._CUDA_HEADER,
    "gradient_norm": gradient_norm._CUDA_HEADER,
    "labels": labels._CUDA_HEADER,
    "mixing": mlp._HEADER,
    "nmf": MATRICES + (DRIVERS / "plain_product.h").read_text() + nmf._CUDA_HEADER,
    "norm": norm._CUDA_HEADER,
    "residual": residual._CUDA_HEADER,
    "resize": resize._CUDA_HEADER,
}
SANITIZERS = {"races": "thread", "memory": "address,undefined"}
FOUND = 66  # the exit code of ThreadSanitizer where it has reported something

Build = Callable[[str, str], Path]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Compiles the driver of a kernel, with the kernel before it, for a sanitizer."""
    builder = ProgramBuilder(tmp_path_factory.mktemp("threads"), DRIVERS)

    @functools.cache
    def build(kernel: str, sanitizer: str) -> Path:
        flags = ["-O0", "-g1", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=undefined"]
        return builder.build(kernel, KERNELS.get(kernel, ""), DRIVERS / f"{kernel}.cc", *flags)

    return build


def run(program: Path, *, left_out: int = 0) -> subprocess.CompletedProcess[str]:
    """Runs a program, with one barrier of every thread left out if wanted, up to the first race."""
    # Without random addresses, which ThreadSanitizer of GCC 12 doesn't get along with where they have many bits.
    settings = {"TSAN_OPTIONS": "halt_on_error=1 atexit_sleep_ms=0", "CUDA_MACHINE_NO_BARRIER": str(left_out)}
    command = ["setarch", "--addr-no-randomize", str(program)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | settings)


@pytest.mark.parametrize("sanitizer", SANITIZERS.values(), ids=SANITIZERS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_the_kernels_are_right_and_sanitizers_report_nothing(build: Build, kernel: str, sanitizer: str) -> None:
    done = run(build(kernel, sanitizer))
    assert done.returncode == 0, done.stderr[-4000:]
    assert not done.stderr


@pytest.mark.parametrize("kernel", [name for name, source in KERNELS.items() if "__syncthreads" in source])
def test_a_barrier_less_is_reported_as_a_race(build: Build, kernel: str) -> None:
    done = run(build(kernel, SANITIZERS["races"]), left_out=1)
    assert done.returncode == FOUND
    assert "data race" in done.stderr


def test_blocks_that_write_to_one_place_are_reported(build: Build) -> None:
    assert run(build("overlap", SANITIZERS["races"])).returncode == FOUND


def test_a_thread_beyond_a_shared_array_is_reported(build: Build) -> None:
    done = run(build("beyond", SANITIZERS["memory"]))
    assert "heap-buffer-overflow" in done.stderr
