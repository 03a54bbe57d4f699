from __future__ import annotations

from pathlib import Path

import pytest

from segnext.doctor import Finding, State, machine, problem
from segnext.doctor.machine import examine_machine


def fail() -> Finding:
    raise OSError("no such thing")


def test_a_check_that_fails_itself_is_a_warning_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(machine, "check_mpi", fail)
    findings = {finding.topic: finding for finding in examine_machine(output_dir=tmp_path, trial=False)}
    assert findings["MPI"].state is State.warning
    assert "OSError: no such thing" in findings["MPI"].text
    assert list(findings)[-1] == "Cache"


def test_jittor_is_not_tried_after_a_problem_that_forbids_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "check_compiler", lambda: problem("Compiler", "g++ not found"))
    monkeypatch.setattr(machine, "run_trial", lambda *args, **settings: pytest.fail("tried"))
    findings = {finding.topic: finding for finding in examine_machine(output_dir=tmp_path)}
    assert "left out" in findings["Trial"].text
