"""What a training step asks of a GPU, recorded on the CUDA machine: nothing of it may wait for the host."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.backend.cuda.machine import Machine, Recording

STEPS = """
from tests.backend.cuda.machine.workloads import mark, train_steps
train_steps("tiny", "bf16", batch=2, side=64)
"""
CHECKPOINTED = """
from segnext.models.settings import ModelSettings
from tests.backend.cuda.machine.workloads import train_steps
train_steps(ModelSettings("tiny", gradient_checkpointing=True), "bf16", batch=2, side=128, steps=2)
"""
HOST_OPERATOR = """
jt.code([8], "float32", [jt.array([1.0] * 8)], cpu_src="out0_p[0] = in0_p[0];").sync()
mark("host operator")
"""
FAILING_LAUNCH = """
header = "__global__ static void nothing() {}"
jt.code([8], "float32", [], cuda_header=header, cuda_src="nothing<<<1, 2048>>>();").sync()
"""


@pytest.fixture(scope="module")
def recordings(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recording]:
    """Four steps of tiny in bfloat16, then an operator on the host."""
    log = tmp_path_factory.mktemp("step") / "log"
    done = machine.run(STEPS + HOST_OPERATOR, computes=False, record=log)
    assert done.returncode == 0, done.stderr[-4000:]
    return Recording.read(log)


def blocking(recording: Recording) -> list[tuple[str, str]]:
    return [kind for kind in recording.copies if kind[1] == "blocking"]


def test_a_steady_step_runs_no_host_operator_and_copies_nothing_to_the_host(recordings: dict[str, Recording]) -> None:
    step = recordings["step 4"]
    assert step.launches
    assert not blocking(step)
    assert step.copies["host to device", "asynchronous"] <= 5  # images, labels and the three kinds of draws
    assert not [kind for kind in step.copies if kind[0] == "device to host"]


def test_a_steady_step_waits_at_most_twice_for_the_gpu(recordings: dict[str, Recording]) -> None:
    assert recordings["step 4"].synchronisations.total() <= 2


def test_a_steady_step_takes_no_new_memory_and_searches_no_algorithm(recordings: dict[str, Recording]) -> None:
    assert sum(recordings["step 4"].allocations) <= 2 << 20  # losses wait until they are logged
    assert not [call for call in recordings["step 4"].libraries if "search" in call]


def test_no_operator_of_a_step_adds_atomically(machine: Machine, recordings: dict[str, Recording]) -> None:
    # Sums in the order that threads happen to come in would differ from run to run.
    sources = machine.sources()
    names = {launch.name.rpartition(" ")[0] for launch in recordings["step 4"].launches}
    assert names <= sources.keys()
    assert not [name for name in names if re.search(r"\batomic\w*\(|cuda_atomic_\w+\(", sources[name])]


def test_a_step_with_checkpointing_makes_nothing_larger_than_maps(machine: Machine, tmp_path: Path) -> None:
    # Jittor's own convolution would be a product over seven dimensions wherever a part of the gradients is computed.
    done = machine.run(CHECKPOINTED, computes=False, record=tmp_path / "log")
    assert done.returncode == 0, done.stderr[-4000:]
    blocks = [size for part in Recording.read(tmp_path / "log").values() for size in part.allocations]
    assert max(blocks) <= 32 << 20


def test_an_operator_on_the_host_is_seen(recordings: dict[str, Recording]) -> None:
    assert ("device to host", "blocking") in blocking(recordings["host operator"])


def test_a_kernel_that_could_not_be_started_ends_the_run_by_name(machine: Machine) -> None:
    done = machine.run(FAILING_LAUNCH, computes=False)
    assert done.returncode != 0
    assert re.search(r"a kernel of code__\S+ could not be started: invalid configuration argument", done.stderr)
