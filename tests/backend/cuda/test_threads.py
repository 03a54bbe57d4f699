"""The project's own kernels with a real thread for each CUDA thread, under the compilers' sanitizers.

A driver per kernel compares its results with the definition; ThreadSanitizer sees a missing barrier, AddressSanitizer
and UBSan see what reads or writes too far.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from segnext.backend.cuda.toolkit import installed_toolkits
from segnext.kernels import adamw, attention, depthwise, mlp, norm, residual, resize
from tests.backend.cuda.machine import HERE, translate

KERNELS = {
    "adamw": adamw._HEADER,
    "attention": attention._HEADER,
    "depthwise": depthwise._CUDA_HEADER,
    "mixing": mlp._HEADER,
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
    toolkit = next((toolkit for toolkit in installed_toolkits() if toolkit.version[0] == 13), None)
    if toolkit is None:
        pytest.skip("no nvcc 13: the headers of CUDA are missing")
    folder = tmp_path_factory.mktemp("threads")
    drivers = Path(__file__).with_name("kernels")

    def build(kernel: str, sanitizer: str) -> Path:
        program = folder / f"{kernel}-{sanitizer.partition(',')[0]}"
        if not program.exists():
            source = folder / f"{kernel}.cc"
            text = KERNELS[kernel]
            if sanitizer == SANITIZERS["races"]:  # what waits for threads takes as long as there are threads
                text = text.replace("THREADS = 256;", "THREADS = 64;")
            source.write_text(translate(text, name=kernel) + (drivers / f"{kernel}.cc").read_text())
            flags = ["-std=c++17", "-O0", "-g1", "-w", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=undefined"]
            flags += ["-DCUDA_MACHINE_THREADS", f"-I{HERE}", f"-I{drivers}", f"-I{toolkit.root / 'include'}"]
            command = ["g++", *flags, "-include", "device.h", str(source), "-o", str(program), "-pthread"]
            subprocess.run(command, check=True)
        return program

    return build


def run(program: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    # Without random addresses, which ThreadSanitizer of GCC 12 doesn't get along with where they have many bits.
    command = ["setarch", "--addr-no-randomize", str(program)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | settings)


@pytest.mark.parametrize("sanitizer", SANITIZERS.values(), ids=SANITIZERS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_the_kernels_are_right_and_sanitizers_report_nothing(build: Build, kernel: str, sanitizer: str) -> None:
    done = run(build(kernel, sanitizer))
    assert done.returncode == 0, done.stderr[-4000:]
    assert not done.stderr


def test_a_barrier_less_is_reported_as_a_race(build: Build) -> None:
    program = build("depthwise", SANITIZERS["races"])
    done = run(program, CUDA_MACHINE_NO_BARRIER="1", TSAN_OPTIONS="halt_on_error=1")
    assert done.returncode == FOUND
    assert "data race" in done.stderr
