from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from segnext.doctor import State
from segnext.doctor.machine import check_folder
from segnext.doctor.trial import size


@pytest.mark.parametrize(
    ("free", "state"), [(20e9, State.ok), (3e9, State.warning), (1e8, State.problem)], ids=["much", "little", "none"]
)
def test_free_space_decides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: float, state: State) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    assert check_folder("Outputs", tmp_path / "not/there/yet").state is state


def test_a_file_in_the_way_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "outputs").write_text("")
    finding = check_folder("Outputs", tmp_path / "outputs/runs")
    assert finding.state is State.problem
    assert str(tmp_path / "outputs") in finding.text


def test_the_size_of_a_folder_counts_files_at_every_depth(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "one").write_bytes(b"1234")
    (tmp_path / "a/b/two").write_bytes(b"123")
    assert size(tmp_path) == 7
    assert size(tmp_path / "nowhere") == 0
