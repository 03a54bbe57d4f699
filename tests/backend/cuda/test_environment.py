from __future__ import annotations

from pathlib import Path

from segnext.backend.cuda.environment import enter, leave

HOME = Path("/somewhere/cuda/0123")


def test_jittor_is_pointed_at_the_home_and_downloads_nothing() -> None:
    environment: dict[str, str] = {}
    enter(HOME, environment)
    assert environment == {
        "nvcc_path": "/somewhere/cuda/0123/bin/nvcc",
        "cc_flags": "-DcomputeMode=major -DclockRate=multiProcessorCount",
        "use_cutt": "0",
        "use_cutlass": "0",
        "FIX_TORCH_ERROR": "0",
    }


def test_flags_of_the_user_stay_and_a_second_time_changes_nothing() -> None:
    environment = {"cc_flags": "-g"}
    enter(HOME, environment)
    once = dict(environment)
    enter(HOME, environment)
    assert environment == once
    assert once["cc_flags"] == "-g -DcomputeMode=major -DclockRate=multiProcessorCount"


def test_a_child_on_the_cpu_gets_the_flags_of_a_machine_without_gpu() -> None:
    for before in ({}, {"cc_flags": "-g"}):
        environment = dict(before)
        enter(HOME, environment)
        leave(environment)
        assert environment.get("cc_flags") == before.get("cc_flags")
