"""The machine itself: how it reads CUDA, runs blocks, and what it records."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.backend.cuda.machine import Launch, ProgramBuilder, Recording, translate


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kernels with and without a barrier; given an argument, also one whose threads don't meet at theirs."""
    drivers = Path(__file__).with_name("kernels")
    return ProgramBuilder(tmp_path_factory.mktemp("program"), drivers).build("test", "", drivers / "reverse.cc", "-O1")


def run(program: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *arguments], capture_output=True, text=True, env=os.environ | settings, check=False)


@pytest.mark.parametrize("seed", ["1", "2", "3"])
def test_threads_of_a_block_meet_at_barriers_whatever_their_order(program: Path, seed: str) -> None:
    assert run(program, CUDA_MACHINE_SEED=seed).returncode == 0


def test_threads_that_do_not_meet_end_the_program(program: Path) -> None:
    done = run(program, "diverge")
    assert done.returncode < 0
    assert "barrier" in done.stderr


def test_launches_are_recorded_with_their_threads(program: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    run(program, CUDA_MACHINE_LOG=str(log))
    with log.open("a") as file:
        file.write("mark end, peak 7\n")
    recording = Recording.read(log)["end"]
    assert recording.launches == [Launch("test reverse", 128), Launch("test count", 120)]
    assert recording.peak == 7


def test_a_recording_counts_copies_synchronisations_and_calls(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "copy device to host, blocking, 12\n"
        "mark first, peak 0\n"
        "copy host to device, asynchronous, 8\n"
        "copy host to device, asynchronous, 4\n"
        "synchronise device\n"
        "library cudnn forward, type 0\n"
        "allocate 64\n"
        "mark second, peak 64\n"
    )
    first, second = Recording.read(log).values()
    assert first.copies == {("device to host", "blocking"): 1}
    assert second.copies == {("host to device", "asynchronous"): 2}
    assert second.bytes_copied == {("host to device", "asynchronous"): 12}
    assert second.synchronisations == {"device": 1}
    assert second.libraries == {"cudnn forward": 1}
    assert second.allocations == [64]


def test_a_launch_moves_the_maps_that_it_is_given_and_no_others(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "operator any\n"
        "operand 1000, 300\n"  # three maps
        "operand 2000, 40\n"
        "launch any first, grid 1 1 1, block 32 1 1\n"
        "gets 1000\n"
        "gets 2000\n"
        "library cublas batched, 1x1x1\n"
        "address 1200\n"
        "moves 700\n"
        "launch any second, grid 1 1 1, block 32 1 1\n"
        "gets 1100\n"
        "operator other\n"
        "operand 1000, 8\n"
        "launch other, grid 1 1 1, block 32 1 1\n"
        "gets 1000\n"
        "mark end, peak 0\n"
    )
    recording = Recording.read(log)["end"]
    assert recording.launches == [Launch("any first", 32, 140), Launch("any second", 32, 100), Launch("other", 32, 8)]
    assert recording.bytes_of_libraries == 700


def test_commas_and_templates_of_a_launch_are_kept_together() -> None:
    source = "run<float, 4><<<blocks(a, b), THREADS>>>(x, f(y, z));"
    expected = 'cuda_machine::launch("op run", blocks(a, b),  THREADS, [&] { run<float, 4>(x, f(y, z)); }, x, f(y, z));'
    assert translate(source, name="op") == expected


def test_shared_variables_become_references() -> None:
    expected = "typedef float shared_0_t [4][THREADS]; auto& sums = cuda_machine::shared<shared_0_t>(0);"
    assert translate("__shared__ float sums[4][THREADS];", name="op") == expected
