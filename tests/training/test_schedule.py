from __future__ import annotations

import pytest

from segnext.training.schedule import ScheduleSettings

OFFICIAL = {
    0: 6.0e-11,
    1: 4.0059709625e-08,
    750: 2.9859404859e-05,
    1499: 5.9398249790e-05,
    1500: 5.94375e-05,
    80000: 3.0e-05,
    159999: 3.75e-10,
}


@pytest.mark.parametrize(("iteration", "rate"), OFFICIAL.items())
def test_the_learning_rate_is_the_official_one(iteration: int, rate: float) -> None:
    assert ScheduleSettings(iterations=160_000).learning_rate(iteration) == pytest.approx(rate, rel=1e-9)


def test_the_rate_is_highest_where_the_warm_up_ends() -> None:
    rate = ScheduleSettings(iterations=160_000).learning_rate
    assert max(range(4000), key=rate) == 1500


def test_without_warm_up_training_starts_at_the_full_rate() -> None:
    assert ScheduleSettings(iterations=100, lr=0.1, warmup_iterations=0).learning_rate(0) == 0.1


def test_a_power_bends_the_decay() -> None:
    assert ScheduleSettings(iterations=100, lr=1.0, warmup_iterations=0, power=2.0).learning_rate(50) == pytest.approx(
        0.25
    )


def test_another_batch_at_the_rate_of_the_recipe_is_told_the_rate_that_belongs_to_it() -> None:
    advice = ScheduleSettings(iterations=1, batch_size=4).rate_advice(16)
    assert advice is not None
    assert "schedule.lr=1.5e-05" in advice
    assert "schedule.batch_size=16 schedule.micro_batch=4" in advice


@pytest.mark.parametrize(("batch_size", "lr"), [(16, 6e-5), (4, 1.5e-5)])
def test_the_recipes_batch_and_a_rate_of_ones_own_need_no_advice(batch_size: int, lr: float) -> None:
    assert ScheduleSettings(iterations=1, batch_size=batch_size, lr=lr).rate_advice(16) is None
