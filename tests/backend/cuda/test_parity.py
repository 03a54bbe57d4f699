"""Three training steps computed on the CUDA machine beside the CPU's own, in every precision. Minutes."""

from __future__ import annotations

import pytest

from tests.backend.cuda.machine import Machine
from tests.backend.cuda.machine.machine import REPOSITORY

pytestmark = pytest.mark.slow

STEPS = f"""
import runpy
runpy.run_path({str(REPOSITORY / ".ci/first_steps.py")!r})["parity"](jt, sys.argv[1])
"""


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_losses_gradients_and_weights_of_three_steps_equal_the_cpus(precision: str) -> None:
    if problem := Machine.problem():
        pytest.skip(problem)
    done = Machine.shared().run(STEPS, precision)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "gradients: at most" in done.stdout
