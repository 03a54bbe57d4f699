from __future__ import annotations

from pathlib import Path

import pytest

from segnext.doctor import State, machine
from tests.distributed.ranks import needs_mpi


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder that is all there is of programs."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    return tmp_path


def program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_no_mpi_is_all_right_on_one_gpu(programs: Path) -> None:
    assert machine.check_mpi().state is State.ok


def test_half_an_mpi_is_a_warning(programs: Path) -> None:
    program(programs, "mpicc", "true")
    finding = machine.check_mpi()
    assert finding.state is State.warning
    assert finding.text.startswith("mpirun is missing")


def test_ranks_that_do_not_find_each_other_are_a_problem(programs: Path) -> None:
    program(programs, "mpicc", "true")
    program(
        programs, "mpirun", "case $1 in --version) echo 'mpirun (Open MPI) 4.1.6' ;; *) echo sum 1; echo sum 1 ;; esac"
    )
    pytest.importorskip("mpi4py")
    finding = machine.check_mpi()
    assert finding.state is State.problem
    assert finding.text.startswith("Open MPI 4.1.6")
    assert "do not find each other (sum 1)" in finding.text


def test_without_mpi4py_there_is_a_warning_with_its_cure(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mpicc", "mpirun"):
        program(programs, name, "echo 5.0.1")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    finding = machine.check_mpi()
    assert finding.state is State.warning
    assert "segnext-jittor[mpi]" in finding.cure


@needs_mpi
def test_two_ranks_that_talk_are_all_right() -> None:
    finding = machine.check_mpi()
    assert finding.state is State.ok
    assert "two ranks have talked" in finding.text
