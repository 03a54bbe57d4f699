from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from segnext.sweeps.job import Job
from segnext.sweeps.plan import gather_experience, print_plan
from segnext.tracking.events import Event, EventLog
from segnext.tracking.run_folder import RunFolder

SETTINGS: dict[str, Any] = {
    "model": "tiny",
    "nmf_rank": 16,
    "num_classes": 150,
    "flops_size": (512, 512),
    "crop": (512, 512),
    "iterations": 3600,
    "batch_size": 16,
    "device": "auto",
}
CONFIG = "model: {name: tiny}\ndataset: {crop: [512, 512]}\nschedule: {batch_size: 16}\ndevice: auto\n"


def make_run(folder: Path, speeds: list[float], memory: float | None = None) -> None:
    run = RunFolder.adopt(folder)
    run.write_config(CONFIG)
    run.write_status("finished")
    log = EventLog(run.events)
    for i, speed in enumerate(speeds):
        extra = {} if memory is None else {"train/device_memory_gib": memory}
        log.append(Event(i + 1, "train", {"train/images_per_second": speed, **extra}))
    log.close()


def printed(tmp_path: Path, **settings: Any) -> str:
    out = io.StringIO()
    job = Job("tiny-0", ("model=tiny",), tmp_path / "sweep" / "tiny-0", SETTINGS | settings)
    console = Console(file=out, width=80)
    print_plan([job], output_dir=tmp_path, console=console)
    return out.getvalue()


def test_without_earlier_runs_time_and_memory_are_unknown(tmp_path: Path) -> None:
    row = next(line for line in printed(tmp_path).splitlines() if "pending" in line)
    assert row.split()[-2:] == ["unknown", "unknown"]


def test_time_follows_from_the_speed_of_earlier_runs(tmp_path: Path) -> None:
    make_run(tmp_path / "a", [0.1, 8.0, 8.0, 9.0])  # the first one compiles
    row = next(line for line in printed(tmp_path).splitlines() if "pending" in line)
    assert "2 h 00 min" in row  # 3600 iterations × 16 images / 8 images a second


def test_runs_of_another_kind_are_no_experience(tmp_path: Path) -> None:
    make_run(tmp_path / "a", [0.1, 8.0])
    assert "2 h 00 min" not in printed(tmp_path, crop=(1024, 1024))


def test_memory_is_the_most_that_was_measured(tmp_path: Path) -> None:
    make_run(tmp_path / "a", [1.0, 8.0], memory=10.0)
    make_run(tmp_path / "b", [1.0, 8.0], memory=11.5)
    [known] = gather_experience(tmp_path).values()
    assert (known.device_memory_gib, known.runs) == (11.5, 2)


@pytest.mark.parametrize("damage", ["", "[", "model: 3"])
def test_damaged_runs_are_passed_over(tmp_path: Path, damage: str) -> None:
    make_run(tmp_path / "a", [1.0, 8.0])
    (tmp_path / "a" / "config.yaml").write_text(damage)
    assert gather_experience(tmp_path) == {}


def test_the_plan_shows_params_and_macs_of_the_paper(tmp_path: Path) -> None:
    row = next(line for line in printed(tmp_path).splitlines() if "pending" in line)
    assert ("4.26" in row, "6.59" in row) == (True, True)


def test_the_plan_writes_nothing(tmp_path: Path) -> None:
    printed(tmp_path)
    assert list(tmp_path.iterdir()) == []
