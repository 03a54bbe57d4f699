"""Convolutions through our cudnn.h, computed on the CUDA machine beside the project's own on the CPU."""

from __future__ import annotations

import pytest

from tests.backend.cuda.machine import Machine
from tests.backend.cuda.machine.machine import REPOSITORY

CONVOLUTIONS = f"""
import runpy
checks = runpy.run_path({str(REPOSITORY / ".ci/first_steps.py")!r})
for precision in sys.argv[1:]:
    checks["conv"](jt, precision)
"""


@pytest.mark.parametrize("workspace", [0, 1 << 40], ids=["without", "beyond the limit"])
def test_every_type_is_convolved_in_one_process_whatever_workspace_the_best_algorithm_wants(
    machine: Machine, workspace: int
) -> None:
    # The same shapes in another type were given the algorithm of the first by Jittor.
    done = machine.run(CONVOLUTIONS, "fp32", "bf16", "fp16", "tf32", CUDA_MACHINE_WORKSPACE=str(workspace))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert done.stdout.count("of the largest apart") == 4 * 2 * 4
