from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from segnext.errors import ConfigError
from segnext.sweeps.job import Job
from segnext.sweeps.prune import curve_judge, hopeless
from segnext.tracking.events import Event, EventLog
from segnext.tracking.run_folder import RunFolder


def make_run(folder: Path, curve: Mapping[int, float], *, dataset: str = "shapes") -> Path:
    run = RunFolder.adopt(folder)
    run.write_config(f"dataset:\n  name: {dataset}\n")
    log = EventLog(run.events)
    for iteration, miou in curve.items():
        log.append(Event(iteration, "val", {"val/mIoU": miou}))
    log.close()
    return folder


def test_a_curve_far_below_the_reference_is_hopeless(tmp_path: Path) -> None:
    reference = make_run(tmp_path / "reference", {100: 0.2, 200: 0.4})
    run = make_run(tmp_path / "run", {100: 0.1, 200: 0.3})
    assert hopeless(run, reference, margin=0.05) == "mIoU 30.00 % at iteration 200, where reference had 40.00 %"


def test_a_curve_within_the_margin_goes_on(tmp_path: Path) -> None:
    reference = make_run(tmp_path / "reference", {100: 0.2, 200: 0.4})
    assert hopeless(make_run(tmp_path / "run", {200: 0.36}), reference, margin=0.05) is None


def test_the_reference_is_a_straight_line_between_its_evaluations(tmp_path: Path) -> None:
    reference = make_run(tmp_path / "reference", {100: 0.2, 200: 0.4})
    run = make_run(tmp_path / "run", {150: 0.24})
    assert hopeless(run, reference, margin=0.05) == "mIoU 24.00 % at iteration 150, where reference had 30.00 %"


@pytest.mark.parametrize("iteration", [50, 250])
def test_outside_of_the_reference_nothing_is_said(tmp_path: Path, iteration: int) -> None:
    reference = make_run(tmp_path / "reference", {100: 0.2, 200: 0.4})
    assert hopeless(make_run(tmp_path / "run", {iteration: 0.0}), reference, margin=0.05) is None


def test_a_run_without_an_evaluation_goes_on(tmp_path: Path) -> None:
    assert hopeless(make_run(tmp_path / "run", {}), make_run(tmp_path / "reference", {100: 0.2}), margin=0.0) is None


def job(folder: Path, dataset: str = "shapes") -> Job:
    return Job(folder.name, (), folder, {"dataset": dataset})


def test_the_best_finished_job_on_the_same_dataset_is_the_reference(tmp_path: Path) -> None:
    for name, miou, dataset in (("good", 0.5, "shapes"), ("better", 0.6, "shapes"), ("other", 0.9, "ade")):
        run = RunFolder(make_run(tmp_path / name, {100: miou}, dataset=dataset))
        run.write_metrics({"best_mIoU": miou})
        run.write_status("finished")
    new = job(make_run(tmp_path / "new", {100: 0.52}))
    judge = curve_judge("best", margin=0.05, jobs=[new], sweep=tmp_path)
    assert judge is not None
    assert judge(new) == "mIoU 52.00 % at iteration 100, where better had 60.00 %"


def test_a_reference_of_another_dataset_is_refused(tmp_path: Path) -> None:
    reference = make_run(tmp_path / "reference", {100: 0.2}, dataset="ade")
    with pytest.raises(ConfigError, match="compare runs on one dataset"):
        curve_judge(str(reference), margin=0.05, jobs=[job(tmp_path / "run")], sweep=tmp_path)


def test_a_reference_without_a_curve_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no mIoU curve"):
        curve_judge(str(tmp_path), margin=0.05, jobs=[], sweep=tmp_path)


def test_without_a_reference_nobody_judges(tmp_path: Path) -> None:
    assert curve_judge(None, margin=0.05, jobs=[], sweep=tmp_path) is None
