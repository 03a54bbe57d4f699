"""The CUDA machine, where it is ready: compiling its core is left to the slow tests."""

from __future__ import annotations

import pytest

from tests.backend.cuda.machine import Machine


@pytest.fixture(scope="module")
def machine() -> Machine:
    if problem := Machine.problem():
        pytest.skip(problem)
    machine = Machine.shared()
    if not machine.ready:
        pytest.skip("the machine's core is not compiled yet: the slow tests of the machine do that")
    return machine
