"""Submission files: the names and numbers the servers want, and a zip that is read back."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segnext.errors import ConfigError, DataError
from segnext.evaluation.submission import SubmissionWriter


def test_cityscapes_train_ids_become_label_ids_under_the_servers_name(tmp_path: Path) -> None:
    writer = SubmissionWriter("cityscapes", tmp_path / "submission")
    path = writer.add("berlin/berlin_000000_000019", np.array([[0, 1, 2], [13, 17, 18]], np.int32))
    assert path.name == "berlin_000000_000019_labelIds.png"
    assert np.asarray(Image.open(path)).tolist() == [[7, 8, 11], [26, 32, 33]]


def test_ade_classes_are_counted_from_one(tmp_path: Path) -> None:
    writer = SubmissionWriter("ade", tmp_path / "submission")
    path = writer.add("ADE_val_00000001", np.array([[0, 149]]))
    assert path.name == "ADE_val_00000001.png"
    assert np.asarray(Image.open(path)).tolist() == [[1, 150]]


def write(folder: Path, names: list[str]) -> Path:
    writer = SubmissionWriter("ade", folder)
    for name in names:
        writer.add(name, np.full((4, 5), len(name)))
    return writer.finish()


def test_the_zip_holds_every_file_and_equal_predictions_give_equal_bytes(tmp_path: Path) -> None:
    first = write(tmp_path / "a", ["x", "yy"])
    second = write(tmp_path / "b", ["yy", "x"])
    assert zipfile.ZipFile(first).namelist() == ["x.png", "yy.png"]
    assert first.read_bytes() == second.read_bytes()
    assert first == tmp_path / "a.zip"


def test_a_file_damaged_on_disk_is_found_when_the_zip_is_read_back(tmp_path: Path) -> None:
    writer = SubmissionWriter("ade", tmp_path / "a")
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(writer.add("x", np.ones((4, 5), int)))
    with pytest.raises(DataError, match=r"x\.png .*differs"):
        writer.finish()
    assert not (tmp_path / "a.zip").exists()


def test_an_empty_submission_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="empty"):
        SubmissionWriter("ade", tmp_path / "a").finish()


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    writer = SubmissionWriter("ade", tmp_path / "a")
    writer.add("p/x", np.zeros((2, 2), int))
    with pytest.raises(DataError, match=r"x\.png"):
        writer.add("q/x", np.zeros((2, 2), int))


def test_a_data_set_without_a_benchmark_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="dataset=camvid"):
        SubmissionWriter("camvid", tmp_path / "a")
