"""Starts jobs of this folder as several ranks, for tests."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from segnext.backend.world import find_program
from segnext.distributed.mpirun import mpirun_command, ranks_environment
from segnext.errors import BackendError

__all__ = ["JOBS", "REPOSITORY", "Training", "environment", "needs_mpi", "run_ranks"]

JOBS = Path(__file__).with_name("jobs")
REPOSITORY = Path(__file__).parents[2]


def _installed() -> bool:
    try:
        import mpi4py  # noqa: F401

        return bool(find_program("mpirun"))
    except (ImportError, BackendError):
        return False


needs_mpi = pytest.mark.skipif(not _installed(), reason="the mpi extra is not installed")


def environment() -> dict[str, str]:
    """One OpenMP thread for every rank, whatever the machine; a rank that waits leaves its core to other tests."""
    own = {"OMP_NUM_THREADS": "1", "OMPI_MCA_mpi_yield_when_idle": "1", "WANDB_MODE": "disabled"}
    return {**ranks_environment(), "PYTHONPATH": str(REPOSITORY), **own}


def run_ranks(ranks: int, job: str, *arguments: str, wrapper: Sequence[str] = ()) -> None:
    """Runs a job as so many ranks, or in one plain process, and demands that it ends well."""
    command = [*wrapper, sys.executable, str(JOBS / job), *arguments]
    if ranks > 1:
        command = mpirun_command(command, ranks)
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr


class Training:
    """A training of two ranks in the background: ``jobs/faulty_train.py FAULT`` into ``folder``.

    Args:
        by_mpirun: started by mpirun itself instead of ``ranks=2``.
    """

    def __init__(self, folder: Path, fault: str, *overrides: str, by_mpirun: bool = False) -> None:
        self.folder = folder / "run"
        self.output = folder / "output.txt"
        settings = [
            "model=tiny", "dataset=shapes", "schedule=demo", "schedule.iterations=1000", "schedule.batch_size=2",
            "dataset.crop=[32,32]", "dataset.image_size=[32,32]", "dataset.train_images=8", "dataset.val_images=2",
            "schedule.log_interval=1", "workers=0", f"run_folder={self.folder}", "device=cpu", *overrides,
        ]  # fmt: skip
        command = [sys.executable, str(JOBS / "faulty_train.py"), fault, *settings]
        command = mpirun_command(command, 2) if by_mpirun else [*command, "ranks=2"]
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                command, env=environment(), stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )

    def wait_for(self, iterations: int) -> None:
        """Until rank 1 has done so many iterations."""
        log = self.folder / "ranks" / "1.log"
        self._until(lambda: log.is_file() and f"iteration {iterations} " in log.read_text())

    def wait_for_start(self) -> None:
        """Until both ranks have opened their logs; their models are built then."""
        logs = [self.folder / "ranks" / f"{rank}.log" for rank in (0, 1)]
        self._until(lambda: all(log.is_file() and "process" in log.read_text() for log in logs))

    def pids(self) -> list[int]:
        """Of the ranks."""
        return [int(pid) for pid in re.findall(r"process (\d+)", (self.folder / "ranks" / "0.log").read_text())]

    def end(self, *, within: float) -> int:
        """Waits for the end; returns the exit code."""
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still running after {within} s:\n{self.text()}")

    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def survivors(self, *, within: float) -> list[str]:
        """Processes that know the run's folder and are still there after ``within`` seconds."""
        deadline = time.monotonic() + within
        while (left := self._processes()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left

    def close(self) -> None:
        for process in psutil.process_iter():
            if str(self.folder) in _command(process):
                process.kill()
        self.process.wait(30)

    def _processes(self) -> list[str]:
        return [line for process in psutil.process_iter() if str(self.folder) in (line := _command(process))]

    def _until(self, condition: object) -> None:
        deadline = time.monotonic() + 900
        while not condition():  # type: ignore[operator]
            if self.process.poll() is not None:
                pytest.fail(f"ended with {self.process.returncode}:\n{self.text()}")
            if time.monotonic() > deadline:
                pytest.fail(f"too slow:\n{self.text()}")
            time.sleep(0.05)


def _command(process: psutil.Process) -> str:
    try:
        return "" if process.status() == psutil.STATUS_ZOMBIE else " ".join(process.cmdline())
    except psutil.Error:
        return ""
