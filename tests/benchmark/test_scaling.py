from __future__ import annotations

import pytest

from segnext.backend.world import World
from segnext.benchmark.measuring import Timing
from segnext.benchmark.session import InStep, contestants, scaling
from segnext.distributed.communicator import Communicator


def test_efficiency_is_the_speed_of_all_over_so_many_times_that_of_one() -> None:
    timings = {"4 ranks": Timing((2.0, 2.2), 2), "1 alone": Timing((1.0, 1.1), 2)}
    found = scaling(timings, 4)
    assert found.efficiency == pytest.approx(0.5)
    assert found.communication is None
    assert str(found) == "4 ranks: 2.00 × the images of one (efficiency 50 %)"


def test_communication_is_what_a_step_without_averaging_saves() -> None:
    timings = {"2 ranks": Timing((2.0,), 2), "1 alone": Timing((1.0,), 2), "2 not averaging": Timing((1.5,), 2)}
    found = scaling(timings, 2)
    assert found.communication == pytest.approx(0.25)
    assert "communication and waiting take 25 % of a step" in str(found)


def test_a_rank_that_does_not_work_only_waits() -> None:
    calls: list[str] = []

    def run() -> float:
        calls.append("run")
        return 0.5

    communicator = Communicator(World())
    assert InStep(run, communicator, working=False, averaging=False)() == 0
    assert calls == []
    assert InStep(run, communicator, working=True, averaging=True)() == 0.5
    assert calls == ["run"]


def test_only_training_is_measured_without_averaging() -> None:
    communicator = Communicator(World())
    assert len(contestants("train", float, communicator)) == 3
    assert len(contestants("inference", float, communicator)) == 2
