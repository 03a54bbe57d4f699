from __future__ import annotations

import pytest

from segnext.benchmark.measuring import Timing, forget_peak, peak_bytes, take_turns


def test_contestants_run_in_turns_and_warm_up_rounds_do_not_count() -> None:
    order: list[str] = []
    seconds = {"ours": iter([9.0, 1.0, 2.0, 3.0]), "theirs": iter([9.0, 2.0, 4.0, 6.0])}

    def run(name: str) -> float:
        order.append(name)
        return next(seconds[name])

    timings = take_turns({"ours": lambda: run("ours"), "theirs": lambda: run("theirs")}, images=4, warmup=1, repeats=3)
    assert order == ["ours", "theirs"] * 4
    assert timings["ours"].seconds == (1, 2, 3)
    assert timings["ours"].images_per_second == 2
    assert timings["ours"].ratio(timings["theirs"]) == 2


def test_a_ratio_is_taken_round_by_round() -> None:
    """A round during which the machine was slow for both says as much as any other."""
    ours, theirs = Timing((1.0, 10.0, 1.0), 1), Timing((2.0, 20.0, 2.0), 1)
    assert ours.ratio(theirs) == 2
    assert theirs.ratio(ours) == 0.5


def test_the_spread_is_the_distance_of_the_quartiles_over_the_median() -> None:
    assert Timing((1.0, 2.0, 3.0, 4.0, 5.0), 1).spread == pytest.approx(2 / 3)


def test_the_peak_of_memory_is_forgotten_on_demand() -> None:
    block = bytearray(b"x") * (200 << 20)
    before = peak_bytes()
    del block
    forget_peak()
    assert before - peak_bytes() > 100 << 20
