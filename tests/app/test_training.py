"""What the screen says before a training begins."""

from __future__ import annotations

import io
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from segnext.app.training import check_files
from segnext.data.catalog import create_dataset
from segnext.data.reading import read_stored_label
from segnext.data.settings import ReadingSettings


def test_the_check_of_many_files_says_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "classes.yaml").write_text("names: [ground, leaf]\n")
    for folder in ("images", "annotations"):
        for split in ("train", "val"):
            (tmp_path / folder / split).mkdir(parents=True)
            label = np.array([[0, 1]], np.uint8)
            Image.fromarray(label).save(tmp_path / folder / split / f"{split}-a.png")
    monkeypatch.setattr("segnext.progress._EVERY", 0.001)
    screen, told, deadline = io.StringIO(), "checking the files of train: 1 of 1", time.monotonic() + 5
    splits = [create_dataset("folder", root=str(tmp_path), split=split) for split in ("train", "val")]

    def slow(path: Path, settings: ReadingSettings) -> object:
        while path.parent.name == "val" and told not in screen.getvalue() and time.monotonic() < deadline:
            time.sleep(0.001)
        return read_stored_label(path, settings)

    monkeypatch.setattr("segnext.data.label_cache.read_stored_label", slow)
    check_files(splits[0], splits[1], Console(file=screen))
    assert told in screen.getvalue()
