"""`python -m runners.train -m …`, with stand-ins for the trainings (site/sitecustomize.py)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil
import pytest

import segnext
from segnext.data.classes import SHAPES
from segnext.files import FileLock
from segnext.sweeps.job import Record, read_records

from .conftest import wait_until

ROOT = Path(__file__).parents[2]
SITE = Path(__file__).with_name("site")
SIX = "seed=0,1,2,3,4,5"
CRASHES = {"seed=1": "raise", "seed=2": "kill", "seed=3": "exit"}


class Command:
    """A sweep of `runners.train` on shapes whose runs go to ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mark = f"{uuid.uuid4()}"

    def start(self, *arguments: str, stand_ins: dict[str, str] | None = None) -> subprocess.Popen[str]:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(SITE), str(ROOT)]),
            "STAND_INS": json.dumps(stand_ins or {}),
            "SWEEP_UNDER_TEST": self.mark,
        }
        flags = [text for text in arguments if text == "-m"]  # Hydra wants overrides in one piece
        rest = [text for text in arguments if text != "-m"]
        return subprocess.Popen(
            [sys.executable, "-m", "runners.train", *flags, "dataset=shapes", *rest],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str, stand_ins: dict[str, str] | None = None) -> tuple[int, str]:
        """Exit code and output."""
        process = self.start(*arguments, stand_ins=stand_ins)
        output, _ = process.communicate(timeout=300)
        return process.returncode, output

    def sweeps(self) -> list[Path]:
        return sorted((self.folder / "outputs" / "sweeps").glob("*"))

    def records(self) -> dict[str, Record]:
        """By seed."""
        [sweep] = self.sweeps()
        return {record.job[: len("seed-0")].replace("-", "="): record for record in read_records(sweep)}

    def processes(self) -> list[psutil.Process]:
        """All that belong to the sweep, whatever became of their parents."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("SWEEP_UNDER_TEST") == self.mark and process.status() != "zombie":
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def wait_for_the_end_of_jobs(self, sweep: subprocess.Popen[str]) -> None:
        """Fails if after 5 s anything is left but the process of the sweep itself."""
        deadline = time.monotonic() + 5
        while left := [process for process in self.processes() if process.pid != sweep.pid]:
            assert time.monotonic() < deadline, left
            time.sleep(0.05)


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


def test_a_sweep_survives_three_crashes_says_why_and_goes_on_later(command: Command) -> None:
    code, output = command.run("-m", SIX, "sweep.slots=2", stand_ins=CRASHES)
    assert code == 1
    states = {name: record.state for name, record in command.records().items()}
    assert states == {f"seed={i}": "failed" if f"seed={i}" in CRASHES else "finished" for i in range(6)}
    table = output.split("why")[1]
    assert max(map(len, output.splitlines()[-20:])) <= 120
    for words in ("ValueError: the loss was nan", "killed by SIGKILL", "ended with exit code 3"):
        assert words in " ".join(table.split())
    assert "3 of 6 jobs are not finished" in output

    code, output = command.run("-m", SIX, "sweep.slots=2")
    assert code == 0
    assert {record.state for record in command.records().values()} == {"finished"}
    assert {name: record.attempts for name, record in command.records().items()} == {
        f"seed={i}": 2 if f"seed={i}" in CRASHES else 1 for i in range(6)
    }

    code, output = command.run("-m", SIX, "sweep.slots=2")
    assert code == 0
    assert "Nothing to do: all 6 jobs are done." in output
    assert {record.attempts for record in command.records().values()} == {1, 2}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_5_seconds_after_a_signal_to_the_sweep_nothing_of_it_is_left(command: Command, number: signal.Signals) -> None:
    jobs = {"seed=0": "wait", "seed=1": "stubborn", "seed=2": "litter"}
    process = command.start("-m", "seed=0,1,2", "sweep.slots=3", stand_ins=jobs)
    wait_until(lambda: len(list(command.folder.glob("outputs/sweeps/*/*/pids"))) == 3, seconds=120)
    process.send_signal(number)
    command.wait_for_the_end_of_jobs(process)
    output, _ = process.communicate()
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number), output
    assert command.records()["seed=0"].state == "interrupted"


def test_an_interrupted_sweep_goes_on_from_the_checkpoints(command: Command) -> None:
    process = command.start("-m", "seed=0,1", "sweep.slots=2", stand_ins={"seed=0": "wait", "seed=1": "wait"})
    wait_until(lambda: len(list(command.folder.glob("outputs/sweeps/*/*/pids"))) == 2, seconds=120)
    process.terminate()
    process.communicate()
    code, _ = command.run("-m", "seed=0,1")
    assert code == 0
    assert {record.attempts for record in command.records().values()} == {2}


def test_two_sweeps_started_in_the_same_second_have_separate_folders(command: Command) -> None:
    processes = [command.start("-m", seeds) for seeds in ("seed=0,1", "seed=1,2")]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    assert [len(read_records(sweep)) for sweep in command.sweeps()] == [2, 2]


def test_one_sweep_started_twice_at_once_runs_every_job_once(command: Command) -> None:
    processes = [command.start("-m", "seed=0,1,2,3") for _ in range(2)]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    assert [record.attempts for record in command.records().values()] == [1] * 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-m", "seed=0,1", "schedule.lrr=1"], "did you mean schedule.lr"),
        (["-m", "seed=0,1", "+schedule.lrr=1"], "did you mean schedule.lr"),
        (["-m", "seed=0,1", "evaluation.boundary=true"], "evaluation.boundary has no effect here"),
        (["-m", "seed=0,-1"], "seed=-1 is out of range"),
        (["-m", "model=tiny,smal"], "did you mean small"),
        (["-m", "seed=0,1", "sweep.slots=0"], "sweep.slots=0"),
        (["-m", "seed=0,1", "sweep.on_failure=panic"], "retry:N"),
        (["-m", "seed=0,1", "sweep.slots=1,2"], "give it one value"),
        (["-m", "seed=0,1", "resume=auto"], "a sweep resumes by itself"),
        (["-m", "seed=0,1", "sweep.prune=nowhere"], "holds no mIoU curve"),
        (["-m", "seed=0,1", "hydra.sweep.dir=elsewhere"], "sweep.name=NAME"),
        (["-m", "seed=0,1", "hydra.sweep.subdir=a"], "hydra.sweep.subdir is not used"),
        (["-m", "seed=0,1", "hydra/launcher=basic"], "choose isolated"),
        (["hydra.run.dir=.."], "run_folder=.."),
        (["hydra.job.chdir=true"], "hydra.job.chdir is not used"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_before_any_job(command: Command, arguments: list[str], words: str) -> None:
    code, output = command.run(*arguments)
    assert code == 2
    assert words in output
    assert len(output.splitlines()) == 1
    assert not command.sweeps()


def test_a_dry_run_lists_settings_size_and_cost_and_writes_nothing(command: Command) -> None:
    schedule = ["schedule=demo", "schedule.iterations=300", "schedule.batch_size=8"]
    code, output = command.run("-m", *schedule, "model=tiny,large", "sweep.dry_run=true")
    assert code == 0
    assert "300 × 8" in output
    assert f"{segnext.complexity('large', num_classes=len(SHAPES), height=96, width=96).params / 1e6:.2f}" in output
    assert "unknown" in output
    assert not (command.folder / "outputs").exists()


def test_a_dry_run_for_slurm_submits_nothing(command: Command) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    code, output = command.run("+sweep=slurm", "seed=0,1", "sweep.dry_run=true")
    assert code == 0, output
    assert sum("pending" in line for line in output.splitlines()) == 2
    assert not (command.folder / "outputs").exists()


def test_a_dry_run_finds_the_class_table_in_the_root_of_the_data(command: Command, tmp_path: Path) -> None:
    (tmp_path / "classes.yaml").write_text("[road, tree, sky]")
    data = ("dataset=folder", f"dataset.root={tmp_path}", "dataset.pretrained=null")
    code, output = command.run("-m", *data, "seed=0,1", "sweep.dry_run=true")
    assert code == 0, output
    assert "2 jobs" in output


def test_a_sweep_whose_data_are_missing_starts_no_job_and_a_dry_run_says_so(command: Command, tmp_path: Path) -> None:
    (tmp_path / "classes.yaml").write_text("[road, tree, sky]")
    arguments = ("-m", "dataset=folder", f"dataset.root={tmp_path}", "dataset.pretrained=null", "seed=0,1")
    code, output = command.run(*arguments)
    assert (code, len(output.splitlines())) == (2, 1)
    assert not command.sweeps()
    lacking = output.removeprefix("error: ")
    code, output = command.run(*arguments, "sweep.dry_run=true")
    assert code == 0
    assert output.endswith(f"lacking: {lacking}")


def test_a_sweep_over_two_datasets_finds_each_where_it_lies(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, parts in (("ade", ("training", "validation")), ("camvid", ("train", "val"))):
        for part in parts:
            for file in (f"images/{part}/a.jpg", f"annotations/{part}/a.png"):
                (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / name / file).touch()
    monkeypatch.setenv("SEGNEXT_ADE", str(tmp_path / "ade"))
    monkeypatch.setenv("SEGNEXT_CAMVID", str(tmp_path / "nowhere"))
    arguments = ("-m", "dataset=camvid,ade", "model=tiny,small", "sweep.dry_run=true")
    _, output = command.run(*arguments)
    assert [line.split()[1] for line in output.splitlines() if line.startswith("lacking")] == [
        f"dataset.root={tmp_path / 'nowhere'}"
    ]
    monkeypatch.setenv("SEGNEXT_CAMVID", str(tmp_path / "camvid"))
    code, output = command.run(*arguments)
    assert (code, "4 jobs" in output, "lacking" in output) == (0, True, False)


def test_a_search_whose_settings_are_wrong_leaves_no_study(command: Command) -> None:
    pytest.importorskip("optuna")
    code, output = command.run("+sweep=search", "schedule=demo", "schedule.batch_size=0")
    assert (code, len(output.splitlines())) == (2, 1)
    assert "schedule.batch_size=0 is out of range" in output
    assert not (command.folder / "outputs").exists()


def test_a_search_has_one_process_at_a_time(command: Command) -> None:
    pytest.importorskip("optuna")
    held = FileLock.take(command.folder / "outputs" / "sweeps" / "search" / ".search.lock")
    assert held is not None
    code, output = command.run("+sweep=search", "schedule=demo", "sweep.name=search")
    held.release()
    assert (code, len(output.splitlines())) == (2, 1)
    assert "is at work in another process" in output


def test_what_a_killed_job_could_not_say_is_in_its_own_status(command: Command) -> None:
    command.run("-m", "seed=0", "sweep.on_failure=retry:1", stand_ins={"seed=0": "kill"})
    [record] = command.records().values()
    status = json.loads((record.folder / "status.json").read_text())
    assert {key: status[key] for key in ("state", "signal", "attempts", "error")} == {
        "state": "failed",
        "signal": "SIGKILL",
        "attempts": 2,
        "error": "killed by SIGKILL (out of memory?)",
    }


def test_a_preset_makes_a_sweep_without_m(command: Command) -> None:
    code, output = command.run("+sweep=paper", "dataset=shapes", "sweep.dry_run=true")
    assert code == 0
    assert [line.split("_")[0] for line in output.splitlines() if ": model=" in line] == [
        *("tiny", "small", "base", "large"),
    ]


def test_jobs_of_one_sweep_share_the_cores(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    command.run("-m", "device=cpu", "seed=0,1", "sweep.slots=2")
    for record in command.records().values():
        environment = json.loads((record.folder / "environment.json").read_text())
        assert environment["OMP_NUM_THREADS"] == str(max(1, len(os.sched_getaffinity(0)) // 2))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_tasks_of_submitit_end_with_the_sweep(command: Command, number: signal.Signals) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    arguments = ("-m", "hydra/launcher=submitit_local", "seed=0,1", "sweep.slots=2")
    process = command.start(*arguments, stand_ins={"seed=0": "wait", "seed=1": "stubborn"})
    wait_until(lambda: len(list(command.folder.glob("outputs/sweeps/*/*/pids"))) == 2, seconds=120)
    process.send_signal(number)
    command.wait_for_the_end_of_jobs(process)
    process.communicate()


@pytest.mark.slow
def test_submitit_isolates_jobs(command: Command) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    arguments = ("-m", "hydra/launcher=submitit_local", "seed=0,1,2")
    code, output = command.run(*arguments, stand_ins={"seed=1": "kill"})
    assert code == 1, output
    assert [record.state for record in command.records().values()] == ["finished", "failed", "finished"]
    assert command.run(*arguments)[0] == 0


@pytest.mark.slow
def test_a_preempted_submitit_job_saves_is_queued_again_and_goes_on(command: Command) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    process = command.start("-m", "hydra/launcher=submitit_local", "seed=0", stand_ins={"seed=0": "wait"})
    wait_until(lambda: list(command.folder.glob("outputs/sweeps/*/*/pids")), seconds=120)
    [task] = [found for found in command.processes() if "submitit.core._submit" in found.cmdline()]
    task.send_signal(signal.SIGUSR2)  # SLURM's notice, by the name that submitit gives it
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    [record] = command.records().values()
    assert (record.state, record.attempts) == ("finished", 2)


@pytest.mark.slow
def test_a_search_goes_on_until_its_trials_are_complete(command: Command) -> None:
    optuna = pytest.importorskip("optuna")
    arguments = ("+sweep=search", "schedule=demo", "sweep.name=search")
    code, output = command.run(*arguments, "hydra.sweeper.n_trials=3")
    assert code == 0, output
    [sweep] = command.sweeps()

    def study() -> optuna.Study:
        return optuna.load_study(study_name="search", storage=f"sqlite:///{sweep / 'study.db'}")

    assert len(study().trials) == 3
    best = study().best_trial
    assert best.value == max(record.best_mIoU for record in read_records(sweep))
    command.run(*arguments, "hydra.sweeper.n_trials=3")
    assert len(study().trials) == 3
    command.run(*arguments, "hydra.sweeper.n_trials=5")
    assert len(study().trials) == 5


@pytest.mark.slow
def test_a_failed_trial_does_not_end_a_search_and_is_tried_again(command: Command) -> None:
    pytest.importorskip("optuna")
    arguments = ("+sweep=search", "schedule=demo", "hydra.sweeper.n_trials=2", "sweep.name=search")
    code, output = command.run(*arguments, stand_ins={"schedule=demo": "exit"})
    assert code == 1, output
    failed = {record.job for record in read_records(command.sweeps()[0])}
    assert len(failed) == 2
    code, output = command.run(*arguments)
    assert code == 0, output
    assert {record.job for record in read_records(command.sweeps()[0]) if record.attempts == 2} == failed
