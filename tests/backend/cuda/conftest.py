"""The CUDA machine, where the wheels of the extra `cuda13` are; the first test on it compiles its core for minutes."""

from __future__ import annotations

import pytest

from tests.backend.cuda.machine import Machine


@pytest.fixture(scope="module")
def machine() -> Machine:
    if problem := Machine.problem():
        pytest.skip(problem)
    return Machine.shared()
