from __future__ import annotations

import math
from pathlib import Path

import pytest

from segnext.errors import ConfigError
from segnext.report.collect import collect
from segnext.tracking.run_folder import RunFolder
from tests.report.sweep import MACS, make_run, make_sweep


def test_every_run_of_a_half_finished_sweep_is_collected_with_its_state(tmp_path: Path) -> None:
    runs = {run.name: run for run in collect(make_sweep(tmp_path))}
    states = {name: run.state for name, run in runs.items()}
    assert {k: v for k, v in states.items() if k != "5"} == {
        "0": "finished",
        "1": "finished",
        "2": "finished",
        "3": "failed",
        "4": "interrupted",
    }
    assert states["5"] == "running"
    assert runs["3"].error == "loss is not finite"


def test_a_run_is_read_from_its_own_files(tmp_path: Path) -> None:
    make_run(tmp_path, "a", seed=7, scores=(0.44, 0.42))
    (run,) = collect(tmp_path)
    assert (run.model, run.dataset, run.seed) == ("tiny", "ade", 7)
    assert (run.miou_ss, run.best_iteration, run.iteration, run.iterations) == (0.44, 100, 200, 200)
    assert (run.params, run.macs, run.images_per_second) == (4_200_000, MACS["tiny"], 31.5)
    assert run.paper is not None
    assert run.paper.miou_ss == pytest.approx(0.411)
    assert run.paper.macs == 7e9
    iou = run.class_iou()
    assert iou["road"] == pytest.approx(0.54)
    assert math.isnan(iou["bed"])


def test_an_evaluation_with_multiple_scales_counts_for_its_run(tmp_path: Path) -> None:
    runs = {run.name: run for run in collect(make_sweep(tmp_path))}
    assert runs["0"].miou_ms == 0.43
    assert math.isnan(runs["1"].miou_ms)
    assert len(runs) == 6  # the evaluation's own folder is no training run


def test_settings_tell_runs_apart_that_are_not_repetitions(tmp_path: Path) -> None:
    for job, rate, seed in (("a", 6e-5, 0), ("b", 3e-5, 0), ("c", 3e-5, 1)):
        make_run(tmp_path, job, seed=seed, schedule={"lr": rate, "iterations": 200})
    assert [(run.name, run.settings) for run in collect(tmp_path)] == [
        ("b", "schedule.lr=3e-05"),
        ("c", "schedule.lr=3e-05"),
        ("a", "schedule.lr=6e-05"),
    ]


def test_damaged_files_do_not_hide_the_other_runs(tmp_path: Path) -> None:
    make_run(tmp_path, "good")
    bad = make_run(tmp_path, "bad")
    bad.config.write_text("a: [")
    bad.metrics.write_text("{")
    bad.status.write_text("[]")
    bad.events.write_text(bad.events.read_text()[:-30])
    runs = {run.name: run for run in collect(tmp_path)}
    assert (runs["bad"].state, runs["bad"].model) == ("unknown", "?")
    assert runs["good"].state == "finished"


@pytest.mark.parametrize(("place", "message"), [("missing", "is no folder"), (".", "no training run")])
def test_a_folder_without_runs_is_named(tmp_path: Path, place: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        collect(tmp_path / place)


def test_what_other_verbs_leave_is_no_training(tmp_path: Path) -> None:
    make_run(tmp_path, "trained")
    for verb in ("predict", "benchmark"):
        folder = RunFolder.adopt(tmp_path / verb)
        folder.write_config("model: {name: tiny}\ndataset: {name: ade}\ncheckpoint: a.pth\n")
        folder.write_status("finished")
    (run,) = collect(tmp_path)
    assert (run.name, run.varied) == ("trained", {})
