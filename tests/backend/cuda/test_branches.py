"""The two branches of MSCAN's blocks, an operator each on CUDA, computed on the CUDA machine beside the CPU's."""

from __future__ import annotations

import pytest

from tests.backend.cuda.machine import Machine

BRANCH = """
from tests.backend.cuda.branches import apart
for name, share in apart(jt, *sys.argv[1:]).items():
    print(name, share)
"""
WITHIN = {"float32": 2e-6, "bfloat16": 2e-2, "float16": 3e-3}  # of the largest value


@pytest.mark.parametrize("dtype", WITHIN)
@pytest.mark.parametrize("branch", ["attention", "MLP"])
def test_a_branch_and_its_gradients_equal_the_cpus(machine: Machine, branch: str, dtype: str) -> None:
    done = machine.run(BRANCH, branch, dtype)
    assert done.returncode == 0, done.stderr[-4000:]
    shares = dict(line.split() for line in done.stdout.splitlines())
    assert len(shares) == {"attention": 24, "MLP": 10}[branch]
    assert {name: share for name, share in shares.items() if not float(share) <= WITHIN[dtype]} == {}
