from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from segnext.data.reading import read_label

REPOSITORY = Path(__file__).parents[2]


def prepare(*overrides: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "runners.prepare", *overrides]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)


def write_ids(root: Path, city: str) -> Path:
    file = root / f"gtFine/val/{city}/{city}_000000_000019_gtFine_labelIds.png"
    file.parent.mkdir(parents=True)
    Image.fromarray(np.array([[7, 33]], np.uint8)).save(file)
    return file


def test_cityscapes_labels_are_converted(tmp_path: Path) -> None:
    source = write_ids(tmp_path, "ulm")
    done = prepare("dataset=cityscapes", f"dataset.root={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert "1 converted, 0 present before, 0 failed" in done.stdout
    assert read_label(source.with_name("ulm_000000_000019_gtFine_labelTrainIds.png")).tolist() == [[0, 18]]


def test_a_broken_label_is_named_and_ends_in_exit_code_1(tmp_path: Path) -> None:
    write_ids(tmp_path, "ulm")
    write_ids(tmp_path, "bonn").write_bytes(b"no image")
    done = prepare("dataset=cityscapes", f"dataset.root={tmp_path}")
    assert done.returncode == 1
    assert "bonn_000000" in done.stdout
    assert "1 converted" in done.stdout


def test_an_incomplete_ade_folder_gets_instructions(tmp_path: Path) -> None:
    done = prepare("dataset=ade", f"dataset.root={tmp_path}/ADEChallengeData2016")
    assert done.returncode == 2
    assert "20210 missing" in done.stdout
    assert "ADEChallengeData2016.zip" in done.stdout


def test_what_cannot_be_prepared_is_one_clear_line(tmp_path: Path) -> None:
    nothing = prepare("dataset=cityscapes", f"dataset.root={tmp_path}")
    assert nothing.returncode == 2
    assert nothing.stderr.startswith("error: ")
    assert nothing.stderr.count("\n") == 1
    assert str(tmp_path) in nothing.stderr
    assert prepare("dataset=camvid").returncode == 2
