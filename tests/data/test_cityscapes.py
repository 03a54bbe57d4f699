from __future__ import annotations

import sys
import types
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from segnext import files
from segnext.data.classes import CITYSCAPES_LABEL_IDS
from segnext.data.preparation import LABEL_ID_TO_TRAIN_ID, convert_labels, to_train_ids
from segnext.data.reading import read_label
from segnext.errors import DataError

STEM = "gtFine/train/bonn/bonn_000000_000019_gtFine"


def write_ids(root: Path, stem: str = STEM, values: object = ((0, 7, 8), (33, 29, 11))) -> Path:
    file = root / f"{stem}_labelIds.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(values, np.uint8)).save(file)
    return file


def test_nineteen_label_ids_have_a_train_id_and_all_others_are_ignored() -> None:
    evaluated = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9}
    evaluated |= {23: 10, 24: 11, 25: 12, 26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18}
    assert {i: int(t) for i, t in enumerate(LABEL_ID_TO_TRAIN_ID) if t != 255} == evaluated


def test_train_ids_go_back_to_label_ids() -> None:
    train_ids = np.arange(19)[None]
    assert np.array_equal(to_train_ids(np.array(CITYSCAPES_LABEL_IDS, np.uint8)[train_ids]), train_ids)


def test_the_table_is_that_of_cityscapesscripts() -> None:
    labels = pytest.importorskip("cityscapesscripts.helpers.labels").labels
    for label in labels:
        if label.id >= 0:
            assert LABEL_ID_TO_TRAIN_ID[label.id] == label.trainId


def test_label_ids_are_converted_beside_their_source(tmp_path: Path) -> None:
    write_ids(tmp_path)
    report = convert_labels(tmp_path)
    assert (report.converted, report.present, report.failed) == (1, 0, [])
    assert read_label(tmp_path / f"{STEM}_labelTrainIds.png").tolist() == [[255, 0, 1], [18, 255, 2]]


def test_a_second_run_goes_on_where_the_first_stopped(tmp_path: Path) -> None:
    write_ids(tmp_path)
    convert_labels(tmp_path)
    target = tmp_path / f"{STEM}_labelTrainIds.png"
    before = target.stat().st_mtime_ns
    write_ids(tmp_path, STEM.replace("000019", "000020"))
    told: list[tuple[int, int]] = []
    report = convert_labels(tmp_path, progress=lambda done, total: told.append((done, total)))
    assert (report.converted, report.present) == (1, 1)
    assert told == [(1, 2), (2, 2)]
    assert target.stat().st_mtime_ns == before
    assert convert_labels(tmp_path, overwrite=True).converted == 2


def test_a_broken_file_is_reported_and_the_rest_converted(tmp_path: Path) -> None:
    write_ids(tmp_path)
    write_ids(tmp_path, STEM.replace("bonn", "ulm")).write_bytes(b"half")
    write_ids(tmp_path, STEM.replace("bonn", "jena"), [[7, 99]])
    report = convert_labels(tmp_path)
    assert report.converted == 1
    assert sorted("99" in message.replace(str(tmp_path), "") for message in report.failed) == [False, True]


def test_a_file_appears_only_when_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_ids(tmp_path)

    def full_disk(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", full_disk)
    report = convert_labels(tmp_path)
    assert "No space left" in report.failed[0]
    assert [file.name for file in (tmp_path / STEM).parent.iterdir()] == ["bonn_000000_000019_gtFine_labelIds.png"]


def test_the_test_split_is_left_alone(tmp_path: Path) -> None:
    write_ids(tmp_path)
    write_ids(tmp_path, STEM.replace("train", "test"))
    assert convert_labels(tmp_path).converted == 1


@pytest.mark.parametrize("made", ["", "gtFine/train"])
def test_nothing_to_convert_is_explained(tmp_path: Path, made: str) -> None:
    (tmp_path / made).mkdir(parents=True, exist_ok=True)
    with pytest.raises(DataError, match=r"gtFine_trainvaltest\.zip"):
        convert_labels(tmp_path)


def test_polygons_without_the_package_name_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / f"{STEM}_polygons.json"
    file.parent.mkdir(parents=True)
    file.write_text("{}")
    monkeypatch.setitem(sys.modules, "cityscapesscripts", None)
    with pytest.raises(DataError, match="pip install cityscapesscripts"):
        convert_labels(tmp_path)


def test_polygons_are_drawn_by_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_ids(tmp_path)
    alone = tmp_path / f"{STEM.replace('bonn', 'ulm')}_polygons.json"
    for file in (tmp_path / f"{STEM}_polygons.json", alone):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{}")
    drawn = []

    def draw(source: str, target: str, encoding: str) -> None:
        drawn.append((Path(source), encoding))
        cv2.imwrite(target, np.full((2, 2), 13, np.uint8))

    module = types.ModuleType("cityscapesscripts.preparation.json2labelImg")
    module.json2labelImg = draw  # type: ignore[attr-defined]
    for name in ("cityscapesscripts", "cityscapesscripts.preparation"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    report = convert_labels(tmp_path)
    # where there are labelIds, they are taken
    assert report.converted == 2
    assert drawn == [(alone, "trainIds")]
    assert read_label(alone.with_name(alone.name.replace("polygons.json", "labelTrainIds.png"))).max() == 13
