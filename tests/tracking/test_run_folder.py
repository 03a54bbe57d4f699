from __future__ import annotations

import json
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from segnext.errors import ConfigError, TrainingError
from segnext.tracking.run_folder import RunFolder


def test_a_run_folder_lies_below_its_name_and_has_a_place_for_checkpoints(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "tiny_shapes")
    assert folder.path.parent == tmp_path / "tiny_shapes"
    assert folder.checkpoints.is_dir()
    assert folder.name == f"tiny_shapes/{folder.path.name}"


def test_starts_in_the_same_second_get_folders_of_their_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: RunFolder.create(tmp_path, "x").path, range(16)))
    assert len(set(folders)) == 16


@pytest.mark.parametrize("name", ["", "/etc", "../up", "a\nb", "tab\t", "\x1b[2J", "\u202egnp"])
def test_a_name_that_would_leave_the_outputs_or_command_a_terminal_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a run"):
        RunFolder.create(tmp_path, name)
    if not name.isprintable():
        with pytest.raises(ConfigError, match="cannot name a run"):
            RunFolder.adopt(tmp_path / name)


def test_opening_a_folder_without_a_run_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"neither events\.jsonl"):
        RunFolder.open(tmp_path)


def test_a_folder_with_a_status_can_be_opened_again(tmp_path: Path) -> None:
    folder = RunFolder.adopt(tmp_path / "job")
    folder.write_status("failed", error="out of memory", exit_reason="MemoryError")
    status = RunFolder.open(tmp_path / "job").read_status()
    assert status is not None
    assert (status.state, status.error, status.exit_reason) == ("failed", "out of memory", "MemoryError")


def test_a_run_whose_process_is_gone_is_lost(tmp_path: Path) -> None:
    folder = RunFolder.adopt(tmp_path)
    folder.write_status("running")
    status = folder.read_status()
    assert status is not None
    assert not status.lost
    record = json.loads(folder.status.read_text())
    record["pid"] = 2**22 + 1  # above Linux' highest process number
    folder.status.write_text(json.dumps(record))
    status = folder.read_status()
    assert status is not None
    assert status.host == socket.gethostname()
    assert status.lost


def test_metrics_are_strict_json_with_null_for_what_is_not_finite(tmp_path: Path) -> None:
    folder = RunFolder.adopt(tmp_path)
    folder.write_metrics({"mIoU": np.float32(0.5), "IoU": [float("nan"), np.inf], "params": np.int64(7), "best": None})
    text = folder.metrics.read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {"mIoU": 0.5, "IoU": [None, None], "params": 7, "best": None}


def test_a_failed_write_keeps_the_old_file_and_leaves_no_rubbish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder.adopt(tmp_path)
    folder.write_metrics({"mIoU": 0.25})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(TrainingError, match="No space left on device"):
        folder.write_metrics({"mIoU": 0.75})
    assert folder.read_metrics() == {"mIoU": 0.25}
    assert sorted(os.listdir(tmp_path)) == ["checkpoints", "metrics.json"]


def test_classes_come_back_as_written(tmp_path: Path) -> None:
    folder = RunFolder.adopt(tmp_path)
    folder.write_classes(["sky", "straße"], np.array([[1, 2, 3], [4, 5, 6]], np.uint8))
    names, palette = folder.read_classes()
    assert names == ("sky", "straße")
    assert palette.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_a_folder_has_one_process_at_work_at_a_time(tmp_path: Path) -> None:
    folder = RunFolder.adopt(tmp_path / "run")
    folder.write_status("running")
    held = folder.lock()
    assert held is not None
    with pytest.raises(ConfigError, match=rf"in use by another run \(process {os.getpid()} on .*\): wait for its end"):
        folder.claim()
    held.release()
    folder.claim()
    assert folder.lock() is None


def test_a_process_works_in_the_folder_that_its_starter_holds_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder.adopt(tmp_path / "run")
    held = folder.lock()
    assert held is not None
    monkeypatch.setenv("SEGNEXT_RUN_LOCKED", str(folder.path))
    folder.claim()
    held.release()


def test_every_process_that_works_on_a_run_counts_as_an_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder.adopt(tmp_path / "run")
    attempts = []
    for pid in (11, 11, 12):
        monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)
        folder.write_status("running")
        status = folder.read_status()
        assert status is not None
        attempts.append(status.attempts)
    assert attempts == [1, 1, 2]


def test_what_a_killed_write_left_behind_is_swept_at_the_next_start(tmp_path: Path) -> None:
    folder = RunFolder.adopt(tmp_path)
    for place in (folder.path, folder.checkpoints):
        (place / ".metrics.json.ab12cd34.unfinished").write_text("{")
        (place / ".mine").write_text("kept")
    folder.claim()
    assert sorted(path.name for path in tmp_path.rglob(".*")) == [".lock", ".mine", ".mine"]


def test_settings_that_change_what_is_computed_are_told_apart(tmp_path: Path) -> None:
    folder = RunFolder.adopt(tmp_path / "run")
    folder.write_config("model: {name: tiny, old: 1}\nschedule: {lr: 6.0e-05}\ncrop: [32, 32]\nworkers: 2\n")
    given = {"model": {"name": "tiny", "new": 2}, "schedule": {"lr": 1e-4}, "crop": [32, 32], "workers": 4}
    assert folder.changed_settings(given) == {"schedule.lr": (6e-05, 1e-4)}
