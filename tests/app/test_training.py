"""What the screen says before a training begins."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from segnext.app.training import check_files
from segnext.data.creation import create_dataset


def test_the_check_of_many_files_says_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "classes.yaml").write_text("names: [ground, leaf]\n")
    for folder in ("images", "annotations"):
        for split in ("train", "val"):
            (tmp_path / folder / split).mkdir(parents=True)
            label = np.array([[0, 1]], np.uint8)
            Image.fromarray(label).save(tmp_path / folder / split / f"{split}-a.png")
    monkeypatch.setattr("segnext.app.training._SILENCE", -1.0)
    screen = io.StringIO()
    splits = [create_dataset("folder", root=str(tmp_path), split=split) for split in ("train", "val")]
    check_files(splits[0], splits[1], Console(file=screen))
    assert screen.getvalue().splitlines() == [f"checking the files of {split}: 1 of 1" for split in ("train", "val")]
