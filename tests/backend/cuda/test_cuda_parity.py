"""Three training steps computed on the CUDA machine beside the CPU's own, in every precision. Minutes."""

from __future__ import annotations

import pytest

from tests.backend.cuda.machine import Machine
from tests.backend.cuda.machine.machine import REPOSITORY

pytestmark = pytest.mark.long

STEPS = f"""
import runpy
runpy.run_path({str(REPOSITORY / ".ci/first_steps.py")!r})["parity"](jt, sys.argv[1])
"""
BITS = f"""
import runpy
found = runpy.run_path({str(REPOSITORY / ".ci/first_steps.py")!r})["_three_steps"](jt, "bf16", (2, 64, 96), use_cuda=1)
for name, value in found.items():
    print(name, value if name == "losses" else hash(value.tobytes()))
"""


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_losses_gradients_and_weights_of_three_steps_equal_the_cpus(machine: Machine, precision: str) -> None:
    done = machine.run(STEPS, precision)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "gradient: " in done.stdout


def test_steps_have_the_same_bits_whatever_order_the_threads_come_in(machine: Machine) -> None:
    runs = [machine.run(BITS, CUDA_MACHINE_SEED=seed, PYTHONHASHSEED="0") for seed in ("1", "2")]
    assert runs[0].returncode == 0, runs[0].stderr[-4000:]
    assert "losses" in runs[0].stdout
    assert runs[0].stdout == runs[1].stdout
