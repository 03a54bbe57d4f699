from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segnext.data.catalog import create_dataset
from segnext.doctor import State
from segnext.doctor.dataset import DatasetExamination, class_share, examine_dataset
from segnext.errors import ConfigError


def write(root: Path, split: str, **labels: Any) -> None:
    """Pairs of a split by name, from label values in rows."""
    for name, rows in labels.items():
        label = np.array(rows, np.uint8)
        for folder, pixels in (("images", np.zeros((*label.shape, 3), np.uint8)), ("annotations", label)):
            file = root / folder / split / f"{name}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(file)


def examine(root: Path, **settings: Any) -> DatasetExamination:
    root.joinpath("classes.yaml").write_text("names: [ground, leaf, stem]\n")
    return examine_dataset(lambda split: create_dataset("folder", root=root, split=split, **settings))


def told(examination: DatasetExamination, state: State) -> list[str]:
    return [
        f"{finding.topic}: {finding.text} → {finding.cure}"
        for finding in examination.findings
        if finding.state is state
    ]


def test_a_sound_dataset_has_one_good_line_per_split(tmp_path: Path) -> None:
    write(tmp_path, "train", a=[[0, 1, 2, 255]], b=[[0, 0, 0, 0], [1, 1, 2, 2]])
    write(tmp_path, "val", c=[[0, 1, 2, 2]])
    examination = examine(tmp_path)
    assert [(finding.topic, finding.state, finding.text) for finding in examination.findings] == [
        ("train", State.ok, "2 pairs, 2 sizes, 4–4×1–2, 8.3 % of the pixels ignored"),
        ("val", State.ok, "1 pairs, 4×1, 0.0 % of the pixels ignored"),
    ]
    assert class_share(examination.reports["val"]) == [0.25, 0.25, 0.5]


def test_a_zero_label_not_reduced_is_a_problem_with_its_cure(tmp_path: Path) -> None:
    for split, name in (("train", "a"), ("val", "b")):
        write(tmp_path, split, **{name: [[0, 1, 2, 3]]})
    found = told(examine(tmp_path), State.problem)
    assert len(found) == 2
    assert "no class: 3 (1 pixels, first in a)" in found[0]
    assert "dataset.reduce_zero_label=true" in found[0]
    assert told(examine(tmp_path, reduce_zero_label=True), State.problem) == []


def test_broken_files_are_named_up_to_a_number(tmp_path: Path) -> None:
    write(tmp_path, "train", **{f"x{k}": [[0, 1, 2]] for k in range(9)})
    write(tmp_path, "val", v=[[0, 1, 2]])
    for k in range(5):
        (tmp_path / f"images/train/x{k}.png").write_bytes(b"oops")
    found = told(examine(tmp_path), State.problem)
    assert [line.split(":")[1].strip() for line in found] == ["x0", "x1", "x2", "2 more broken pairs"]
    assert "images/train/x0.png" in found[0]
    assert "x3, x4" in found[3]


def test_classes_never_seen_are_named(tmp_path: Path) -> None:
    write(tmp_path, "train", a=[[0, 1]])
    write(tmp_path, "val", b=[[0, 2]])
    found = told(examine(tmp_path), State.warning)
    assert any(line.startswith("train: 1 of 3 classes never seen: stem") for line in found)
    assert any(line.startswith("val: 1 of 3 classes never seen: leaf") for line in found)
    assert any(line.startswith("splits: in val but not in train: stem") for line in found)


def test_labels_ignored_everywhere_are_a_warning_and_all_of_them_a_problem(tmp_path: Path) -> None:
    write(tmp_path, "train", a=[[0, 1, 2]], b=[[255, 255]])
    write(tmp_path, "val", c=[[255]])
    examination = examine(tmp_path)
    assert any("1 labels are ignored everywhere: b" in line for line in told(examination, State.warning))
    assert any("val: 1 labels are ignored everywhere: c" in line for line in told(examination, State.problem))


def test_an_image_in_both_splits_is_a_problem(tmp_path: Path) -> None:
    write(tmp_path, "", a=[[0, 1, 2]], b=[[0, 1, 2]], c=[[0, 1, 2]])
    (tmp_path / "train.txt").write_text("a\nb\n")
    (tmp_path / "val.txt").write_text("b\nc\n")
    assert told(examine(tmp_path), State.problem) == [
        "splits: 1 images are in train and in val: images/b.png → "
        "the mIoU would be too good: take them out of one split"
    ]


def test_labels_without_an_image_are_counted(tmp_path: Path) -> None:
    write(tmp_path, "train", a=[[0, 1, 2]], b=[[0, 1, 2]])
    write(tmp_path, "val", c=[[0, 1, 2]])
    (tmp_path / "images/train/b.png").unlink()
    assert any("1 labels have no image" in line for line in told(examine(tmp_path), State.warning))


def test_a_missing_split_is_a_problem_and_the_other_is_looked_at(tmp_path: Path) -> None:
    write(tmp_path, "train", a=[[0, 1, 2]])
    examination = examine(tmp_path)
    assert list(examination.reports) == ["train"]
    assert (
        "annotations/val" in told(examination, State.problem)[0] or "images/val" in told(examination, State.problem)[0]
    )


def test_wrong_settings_are_raised(tmp_path: Path) -> None:
    write(tmp_path, "", a=[[0]], b=[[0]])
    with pytest.raises(ConfigError, match="validation_fraction"):
        examine(tmp_path, validation_fraction=2.0)


def test_progress_is_told_by_split() -> None:
    steps: list[tuple[str, int, int]] = []
    examine_dataset(
        lambda split: create_dataset("shapes", split=split, train_images=4, val_images=4),
        limit=2,
        progress=lambda *step: steps.append(step),
    )
    assert steps == [("train", 1, 2), ("train", 2, 2), ("val", 1, 2), ("val", 2, 2)]


def test_what_is_wrong_for_both_splits_is_said_once(tmp_path: Path) -> None:
    found = told(
        examine_dataset(lambda split: create_dataset("folder", root=tmp_path / "x", split=split)), State.problem
    )
    assert len(found) == 1
