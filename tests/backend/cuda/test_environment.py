from __future__ import annotations

from pathlib import Path

import pytest

from segnext.backend.cuda.environment import enter, leave

HOME = Path("/somewhere/cuda/0123")


def test_jittor_is_pointed_at_the_home_and_downloads_nothing() -> None:
    environment: dict[str, str] = {}
    enter(HOME, environment, capability=(9, 0))
    assert environment == {
        "nvcc_path": "/somewhere/cuda/0123/bin/nvcc",
        "cc_flags": "-DcomputeMode=major -DclockRate=multiProcessorCount",
        "SEGNEXT_CUDA_ARCHITECTURE": "90",
        "use_cutt": "0",
        "use_cutlass": "0",
        "FIX_TORCH_ERROR": "0",
    }


def test_flags_of_the_user_stay_and_a_second_time_changes_nothing() -> None:
    environment = {"cc_flags": "-g"}
    enter(HOME, environment, capability=(9, 0))
    once = dict(environment)
    enter(HOME, environment, capability=(9, 0))
    assert environment == once
    assert once["cc_flags"] == "-g -DcomputeMode=major -DclockRate=multiProcessorCount"


def test_a_child_on_the_cpu_gets_the_flags_of_a_machine_without_gpu() -> None:
    for before in ({}, {"cc_flags": "-g"}):
        environment = dict(before)
        enter(HOME, environment, capability=(9, 0))
        leave(environment)
        assert environment.get("cc_flags") == before.get("cc_flags")


@pytest.mark.parametrize(("capability", "architecture"), [((7, 5), "75"), ((12, 0), "120"), ((13, 0), "121")])
def test_operators_are_compiled_for_the_card_as_far_as_the_compiler_knows_it(
    capability: tuple[int, int], architecture: str
) -> None:
    environment: dict[str, str] = {}
    enter(HOME, environment, capability=capability)
    assert environment["SEGNEXT_CUDA_ARCHITECTURE"] == architecture
