"""Several ranks of which one breaks, hangs, dies or is stopped: all end, soon, and the run folder says why."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from segnext.tracking.run_folder import RunFolder, Status
from tests.distributed.ranks import Training, needs_mpi, run_ranks

pytestmark = needs_mpi

Start = Callable[..., Training]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Training] = []

    def begin(fault: str, *overrides: str, by_mpirun: bool = False) -> Training:
        training = Training(tmp_path, fault, *overrides, by_mpirun=by_mpirun)
        started.append(training)
        return training

    yield begin
    for training in started:
        training.close()


def last_status(folder: Path) -> Status:
    status = RunFolder(folder).read_status()
    assert status is not None
    return status


def test_a_rank_that_raises_ends_the_run_with_its_error(start: Start) -> None:
    training = start("raise")
    training.wait_for(2)
    assert training.end(within=10) == 1
    assert "error: rank 1: RuntimeError: broken on purpose" in training.text()
    assert training.survivors(within=5) == []
    status = last_status(training.folder)
    assert status.state == "failed"
    assert "broken on purpose" in (status.error or "")


def test_a_rank_that_is_killed_ends_the_run(start: Start) -> None:
    training = start("slow")
    training.wait_for(2)
    os.kill(training.pids()[1], signal.SIGKILL)
    assert training.end(within=10) != 0
    assert training.survivors(within=5) == []
    status = last_status(training.folder)
    assert status.state == "failed"
    assert "rank 1" in (status.error or "")


def test_rank_0_killed_leaves_no_run_that_claims_to_be_running(start: Start) -> None:
    training = start("slow")
    training.wait_for(2)
    os.kill(training.pids()[0], signal.SIGKILL)
    assert training.end(within=10) != 0
    assert training.survivors(within=5) == []
    status = last_status(training.folder)
    assert status.state == "failed"
    assert "rank 0" in (status.error or "")


def test_a_rank_that_hangs_is_ended_after_the_time_limit_and_named(start: Start) -> None:
    training = start("hang", "rank_timeout=30")
    training.wait_for(2)
    assert training.end(within=60) != 0
    assert "rank 1 made no progress" in training.text()
    assert training.survivors(within=5) == []
    status = last_status(training.folder)
    assert status.state == "failed"
    assert "rank 1 made no progress" in (status.error or "")


@pytest.mark.parametrize(("number", "by_mpirun"), [(signal.SIGTERM, False), (signal.SIGUSR1, True)])
def test_a_stop_saves_one_checkpoint_with_which_one_process_goes_on(
    start: Start, tmp_path: Path, number: int, by_mpirun: bool
) -> None:
    training = start("slow", by_mpirun=by_mpirun)
    training.wait_for(3)
    training.process.send_signal(number)
    assert training.end(within=20) == 128 + number
    assert training.survivors(within=5) == []
    run = RunFolder(training.folder)
    assert last_status(run.path).state == "interrupted"
    assert sorted(path.name for path in run.checkpoints.iterdir()) == [
        "latest.resume.safetensors", "latest.safetensors",
    ]  # fmt: skip
    done = run.read_metrics()["iteration"]
    more = f"schedule.iterations={done + 1}"
    small = ["dataset.crop=[32,32]", "dataset.image_size=[32,32]", "dataset.train_images=8", "dataset.val_images=2"]
    run_ranks(
        1, "faulty_train.py", "none", "model=tiny", "dataset=shapes", "schedule=demo", "schedule.batch_size=2", *small,
        "schedule.log_interval=1", "workers=0", "device=cpu", f"resume={training.folder}", "ranks=1", more,
    )  # fmt: skip
    assert run.read_metrics()["iteration"] == done + 1
    assert last_status(run.path).state == "finished"


def test_a_stop_before_the_first_iteration_ends_at_once_and_marks_the_run(start: Start) -> None:
    training = start("slow")
    training.wait_for_start()
    training.process.send_signal(signal.SIGTERM)
    assert training.end(within=15) == 128 + signal.SIGTERM
    assert training.survivors(within=5) == []
    status = RunFolder(training.folder).read_status()
    assert status is None or status.state == "interrupted"


def test_mpirun_stopped_without_time_to_save_leaves_an_interrupted_run_and_no_process(start: Start) -> None:
    training = start("slow", by_mpirun=True)
    training.wait_for(3)
    training.process.send_signal(signal.SIGTERM)
    assert training.end(within=10) != 0
    assert training.survivors(within=5) == []
    assert last_status(training.folder).state == "interrupted"
