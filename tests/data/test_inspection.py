from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pairs import WritePair

from segnext.data.catalog import create_dataset
from segnext.data.dataset_report import DatasetReport
from segnext.data.inspection import inspect_dataset

TEXT = "names: [ground, leaf, stem]\n"


def inspect(root: Path, labels: dict[str, object], write_pair: WritePair, **settings: object) -> DatasetReport:
    root.joinpath("classes.yaml").write_text(TEXT)
    for stem, label in labels.items():
        pixels = np.array(label, np.uint8)
        write_pair(root / f"images/train/{stem}.png", root / f"annotations/train/{stem}.png", pixels)
    return inspect_dataset(create_dataset("folder", root=root, **settings))  # type: ignore[arg-type]


def test_pixels_images_and_sizes_are_counted(tmp_path: Path, write_pair: WritePair) -> None:
    report = inspect(tmp_path, {"a": [[0, 0, 1]], "b": [[0, 255, 255]], "c": [[1], [1]]}, write_pair)
    assert report.class_pixels.tolist() == [3, 3, 0]
    assert report.class_images.tolist() == [2, 2, 0]
    assert report.ignored_pixels == 2
    assert dict(report.image_sizes) == {(1, 3): 2, (2, 1): 1}
    assert (report.size, report.inspected) == (3, 3)
    assert report.never_seen == ["stem"]
    assert report.healthy


def test_labels_ignored_everywhere_are_named(tmp_path: Path, write_pair: WritePair) -> None:
    report = inspect(tmp_path, {"a": [[0, 1]], "b": [[255, 255]]}, write_pair)
    assert report.all_ignored == ["b"]
    assert any("the first is b" in hint for hint in report.hints)


def test_zero_counts_as_ignored_where_it_is_reduced(tmp_path: Path, write_pair: WritePair) -> None:
    report = inspect(tmp_path, {"a": [[0, 1, 3]], "b": [[0, 0, 0]]}, write_pair, reduce_zero_label=True)
    assert report.class_pixels.tolist() == [1, 0, 1]
    assert report.ignored_pixels == 4
    assert report.all_ignored == ["b"]


def test_broken_files_are_named_and_the_rest_is_counted(tmp_path: Path, write_pair: WritePair) -> None:
    inspect(tmp_path, {"a": [[0]], "b": [[1]], "c": [[2]], "d": [[1, 1]]}, write_pair)
    (tmp_path / "images/train/a.png").write_bytes(b"oops")
    (tmp_path / "annotations/train/c.png").write_bytes(b"")
    write_pair(tmp_path / "images/train/d.png", tmp_path / "x/d.png", np.zeros((2, 3), np.uint8))
    report = inspect_dataset(create_dataset("folder", root=tmp_path))
    assert [broken.name for broken in report.broken] == ["a", "c", "d"]
    assert "is empty" in report.broken[1].message
    assert "3×2" in report.broken[2].message
    assert "2×1" in report.broken[2].message
    assert report.class_pixels.tolist() == [0, 1, 0]
    assert not report.healthy


def test_the_zero_label_not_reduced_is_recognised(tmp_path: Path, write_pair: WritePair) -> None:
    report = inspect(tmp_path, {"a": [[0, 1, 2]], "b": [[3, 3, 1]]}, write_pair)
    assert [(entry.value, entry.pixels, entry.first_sample) for entry in report.unknown_values] == [(3, 2, "b")]
    assert not report.healthy
    assert "dataset.reduce_zero_label=true" in report.hints[0]


def test_the_zero_label_reduced_twice_is_recognised(tmp_path: Path, write_pair: WritePair) -> None:
    report = inspect(tmp_path, {"a": [[0, 1, 2, 255]]}, write_pair, reduce_zero_label=True)
    assert "reduced already" in report.hints[0]


def test_classes_counted_from_one_are_suspected(tmp_path: Path, write_pair: WritePair) -> None:
    report = inspect(tmp_path, {"a": [[1, 2, 255]]}, write_pair)
    assert "no pixel has the label 0 (ground)" in report.hints[0]
    assert report.healthy


def test_smoothed_edges_are_suspected(tmp_path: Path, write_pair: WritePair) -> None:
    report = inspect(tmp_path, {"a": [[0, 1, 87, 140, 255]]}, write_pair)
    assert [entry.value for entry in report.unknown_values] == [87, 140]
    assert "smoothed" in report.hints[0]


def test_raw_ade_labels_are_right_as_they_are(tmp_path: Path, write_pair: WritePair) -> None:
    label = np.arange(151, dtype=np.uint8)[None]
    write_pair(tmp_path / "images/validation/v.jpg", tmp_path / "annotations/validation/v.png", label)
    report = inspect_dataset(create_dataset("ade", root=tmp_path, split="val"))
    assert report.healthy
    assert report.hints == []
    assert report.never_seen == []
    assert report.ignored_pixels == 1


def test_cityscapes_label_ids_are_recognised(tmp_path: Path, write_pair: WritePair) -> None:
    stem = "ulm_000000_000019"
    write_pair(
        tmp_path / f"leftImg8bit/val/ulm/{stem}_leftImg8bit.png",
        tmp_path / f"gtFine/val/ulm/{stem}_gtFine_labelTrainIds.png",
        np.array([[0, 7, 26, 33]], np.uint8),
    )
    report = inspect_dataset(create_dataset("cityscapes", root=tmp_path, split="val"))
    assert "runners.prepare" in report.hints[0]


def test_camvids_unlabelled_value_is_recognised(tmp_path: Path, write_pair: WritePair) -> None:
    label = np.arange(12, dtype=np.uint8)[None]
    write_pair(tmp_path / "images/val/v.jpg", tmp_path / "annotations/val/v.png", label)
    report = inspect_dataset(create_dataset("camvid", root=tmp_path, split="val"))
    assert report.hints == ["11 is SegNet's value for unlabelled pixels: store 255 instead"]


def test_a_limit_spreads_over_the_dataset_and_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    dataset = create_dataset("shapes", split="val", val_images=50)
    report = inspect_dataset(dataset, limit=5, progress=lambda done, total: told.append((done, total)))
    assert (report.size, report.inspected) == (50, 5)
    assert told == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
    assert report.class_pixels.sum() == 5 * 96 * 96


@pytest.mark.shared_data
def test_the_real_ade_images_are_healthy(shared_data: Path) -> None:
    report = inspect_dataset(create_dataset("ade", root=shared_data / "ade_sample", split="val"))
    assert report.healthy
    assert report.inspected == 2
    assert report.class_pixels[2] > 0  # there is sky
