"""Real trainings in a sweep, three of which crash after their first checkpoint (faults/sitecustomize.py)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from segnext.sweeps.job import Record, read_records
from segnext.tracking.events import read_events

ROOT = Path(__file__).parents[2]
FAULTS = {"seed=1": "raise", "seed=2": "kill", "seed=3": "exit"}
ARGUMENTS = [
    *("-m", "model=tiny", "dataset=shapes", "schedule=demo", "tracking=none", "workers=0", "seed=0,1,2,3,4,5"),
    *("schedule.iterations=12", "schedule.batch_size=2", "schedule.checkpoint_interval=4", "schedule.log_interval=2"),
    *("dataset.image_size=[32,32]", "dataset.crop=[32,32]", "dataset.scale=[32,32]", "dataset.test.scale=[32,32]"),
    *("schedule.eval_interval=12", "evaluation.max_images=2", "sweep.slots=2"),
]


def run_sweep(folder: Path, faults: dict[str, str]) -> tuple[int, str]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).with_name("faults")), str(ROOT)]),
        "FAULTS": json.dumps(faults),
    }
    command = [sys.executable, "-m", "runners.train", *ARGUMENTS]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1800)
    return done.returncode, done.stdout + done.stderr


def records(folder: Path) -> dict[str, Record]:
    [sweep] = (folder / "outputs" / "sweeps").iterdir()
    return {record.job[: len("seed-0")].replace("-", "="): record for record in read_records(sweep)}


@pytest.mark.slow
def test_six_trainings_two_at_a_time_survive_three_crashes_and_go_on(tmp_path: Path) -> None:
    code, output = run_sweep(tmp_path, FAULTS)
    assert code == 1, output
    found = records(tmp_path)
    expected = {f"seed={i}": "failed" if f"seed={i}" in FAULTS else "finished" for i in range(6)}
    assert {name: record.state for name, record in found.items()} == expected, output
    assert "out of memory" in (found["seed=1"].error or "")
    assert found["seed=2"].signal == "SIGKILL"
    assert found["seed=3"].exit_code == 3

    code, output = run_sweep(tmp_path, {})
    assert code == 0, output
    found = records(tmp_path)
    assert {name: record.attempts for name, record in found.items()} == {
        name: 2 if name in FAULTS else 1 for name in found
    }
    for name in FAULTS:
        events = read_events(found[name].folder / "events.jsonl")
        sessions = [event.iteration for event in events if event.kind == "start"]
        assert len(sessions) == 2
        assert sessions[1] >= 4  # from a checkpoint, not from the beginning
        logged = [event.iteration for event in events if event.kind == "train"]
        assert logged == list(range(2, 13, 2))

    code, output = run_sweep(tmp_path, {})
    assert code == 0
    assert "Nothing to do: all 6 jobs are done." in output

    # What the sweep prints can be pasted back.
    [folder] = [line.removeprefix("Sweep: ") for line in output.splitlines() if line.startswith("Sweep: ")]
    job = f"{folder}/{found['seed=0'].job}"
    single = [text for text in ARGUMENTS if text != "-m" and not text.startswith(("seed=", "sweep."))]
    for verb, *arguments in (
        ("evaluate", "model=tiny", "dataset=shapes", f"checkpoint={job}", "evaluation.max_images=2"),
        ("report", folder),
        ("train", *single, "seed=0", f"run_folder={job}"),
    ):
        command = [sys.executable, "-m", f"runners.{verb}", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
