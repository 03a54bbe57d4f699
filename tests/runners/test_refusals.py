"""What the system refuses is one line that names the file."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import runners.doctor
import runners.evaluate
import runners.profile
import runners.report
from tests.runners.commands import run


def test_a_report_that_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(runners.report, "collect", lambda root: [])
    monkeypatch.setattr(runners.report, "print_runs", lambda runs, console: None)
    assert run(runners.report.main, monkeypatch, f"path={tmp_path}", f"output={tmp_path}/file/report") == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert line.startswith(f"error: {tmp_path}/file/report: Not a directory: ")


def test_a_full_disk_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("segnext.app.runner.resolve", full)
    assert run(runners.profile.main, monkeypatch, "dataset=shapes") == 1
    assert capsys.readouterr().err.startswith("error: No space left on device: free disk space")


def test_several_evaluations_do_not_share_one_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("-m", "dataset=shapes", "seed=1,2", f"run_folder={tmp_path}/x", "checkpoint=zoo:tiny_ade")
    assert run(runners.evaluate.main, monkeypatch, *command) == 2
    assert "run_folder is the folder of one run: with -m leave it out" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_what_decoders_say_in_their_own_words_does_not_reach_the_screen(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = Image.new("RGB", (8, 8))
    for split in ("train", "val"):
        for folder in ("images", "annotations"):
            (tmp_path / folder / split).mkdir(parents=True)
        picture.save(tmp_path / f"images/{split}/{split}-profile.png", icc_profile=b"\0" * 200)
        picture.save(
            tmp_path / f"images/{split}/{split}-exif.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\x03\0\x01"
        )
        label = np.array([[0, 1] * 4] * 8, np.uint8)
        for stem in ("profile", "exif"):
            Image.fromarray(label).save(tmp_path / f"annotations/{split}/{split}-{stem}.png")
    (tmp_path / "classes.yaml").write_text("names: [ground, leaf]\n")
    monkeypatch.setenv("SEGNEXT_HOME", str(tmp_path / "home"))
    run(runners.doctor.main, monkeypatch, "trial=false", "dataset=folder", f"dataset.root={tmp_path}")
    screen = capfd.readouterr()
    assert "2 pairs" in screen.out
    assert screen.err == ""
