from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import pytest

from segnext.report.collect import Run, collect
from segnext.report.tables import cost_points, groups, missing, paper_points, to_csv
from tests.report.sweep import make_run, make_sweep


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    return collect(make_sweep(tmp_path_factory.mktemp("sweep")))


def test_seeds_of_finished_runs_give_mean_and_standard_deviation(runs: list[Run]) -> None:
    tiny, small = groups(runs)
    average, sd, count = tiny.spread("miou_ss")
    assert average == pytest.approx(0.42)
    assert count == 2
    assert sd == pytest.approx(math.sqrt(2) * 0.02)  # of 0.40 and 0.44
    assert small.spread("miou_ss")[0] == 0.5  # the failed run's 0.2 does not count
    assert math.isnan(small.spread("miou_ss")[1])
    assert small.spread("miou_ms")[2] == 0


def test_what_is_missing_is_said_run_by_run_with_the_command_that_brings_it(runs: list[Run]) -> None:
    sweep = runs[0].folder.path.parent
    assert missing(runs) == [
        "3 is failed at 100 of 200 iterations: loss is not finite",
        f"4 is interrupted at 0 of 200 iterations: SIGTERM; it goes on by: python -m runners.train resume={sweep}/4",
        "5 is still running (0 of 200 iterations)",
        "no multi-scale evaluation of 2 runs, the first is 2: "
        f"python -m runners.evaluate tta=true checkpoint={sweep}/2 output_dir={sweep}",
    ]


def test_a_complete_sweep_misses_nothing(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "a")
    folder.write_metrics(folder.read_metrics() | {"mIoU_ms": 0.45})
    assert missing(collect(tmp_path)) == []


def test_the_cost_chart_has_a_point_per_group_and_the_papers(runs: list[Run]) -> None:
    (ade,) = cost_points(runs).values()
    assert [(p.label, p.macs, round(p.miou, 6)) for p in ade] == [("tiny", 6.6e9, 0.42), ("small", 15.9e9, 0.5)]
    assert [point.label for point in paper_points(runs)["ade"]] == ["tiny", "small"]


def test_the_csv_has_plain_numbers_and_empty_fields_for_what_is_unknown(runs: list[Run]) -> None:
    first, *others = csv.DictReader(io.StringIO(to_csv(runs)))
    assert (first["run"], first["mIoU_ss"], first["mIoU_ms"], first["macs"]) == ("0", "0.4", "0.43", "6600000000")
    assert first["wandb"] == "https://wandb.example/x"
    failed = next(row for row in others if row["run"] == "3")
    assert (failed["mIoU_ms"], failed["state"], failed["error"]) == ("", "failed", "loss is not finite")
