"""Which run `resume` means."""

from __future__ import annotations

from pathlib import Path

import pytest

from segnext.errors import ConfigError
from segnext.tracking.run_folder import RunFolder, State
from segnext.training.training_state import find_run


def run(root: Path, state: State, *, checkpoint: bool = True) -> RunFolder:
    folder = RunFolder.create(root, "tiny_ade")
    folder.write_status(state)
    if checkpoint:
        (folder.checkpoints / "latest.resume.safetensors").write_bytes(b"")
    return folder


def test_auto_takes_the_latest_unfinished_run_with_a_checkpoint(tmp_path: Path) -> None:
    run(tmp_path, "interrupted")
    wanted = run(tmp_path, "failed")
    run(tmp_path, "finished")
    run(tmp_path, "interrupted", checkpoint=False)
    assert find_run("auto", root=tmp_path, name="tiny_ade") == wanted


def test_auto_finds_nothing_among_finished_runs(tmp_path: Path) -> None:
    run(tmp_path, "finished")
    assert find_run("auto", root=tmp_path, name="tiny_ade") is None


def test_auto_leaves_runs_of_another_name_alone(tmp_path: Path) -> None:
    run(tmp_path, "interrupted")
    assert find_run("auto", root=tmp_path, name="small_ade") is None


def test_a_named_folder_is_taken(tmp_path: Path) -> None:
    folder = run(tmp_path, "interrupted")
    assert find_run(str(folder.path), root=tmp_path, name="other") == folder


def test_a_finished_run_is_refused(tmp_path: Path) -> None:
    folder = run(tmp_path, "finished")
    with pytest.raises(ConfigError, match="has finished"):
        find_run(str(folder.path), root=tmp_path, name="tiny_ade")


def test_a_finished_run_goes_on_to_more_iterations(tmp_path: Path) -> None:
    folder = run(tmp_path, "finished")
    folder.write_metrics({"iteration": 100})
    assert find_run(str(folder.path), root=tmp_path, name="tiny_ade", iterations=101) == folder
    with pytest.raises(ConfigError, match=r"finished after 100 iterations: give more by schedule\.iterations=N"):
        find_run(str(folder.path), root=tmp_path, name="tiny_ade", iterations=100)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no run folder"):
        find_run(str(tmp_path), root=tmp_path, name="tiny_ade")
