from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from segnext.data.classes import (
    ADE,
    CAMVID,
    CITYSCAPES,
    CITYSCAPES_LABEL_IDS,
    SHAPES,
    ClassTable,
    distinct_palette,
    load_class_table,
)
from segnext.errors import DataError


def test_the_published_tables_have_the_published_numbers_of_classes() -> None:
    assert [len(table) for table in (ADE, CITYSCAPES, CAMVID)] == [150, 19, 11]


def test_ade_names_and_colours_are_in_the_benchmarks_order() -> None:
    known = {0: "wall", 7: "bed", 12: "person", 20: "car", 45 - 1: "chest of drawers", 149: "flag"}
    assert {index: ADE.names[index] for index in known} == known
    assert ADE.palette[[0, 7, 12, 149]].tolist() == [[120, 120, 120], [204, 5, 255], [150, 5, 61], [92, 0, 255]]


def test_ade_has_exactly_one_colour_twice() -> None:
    colours = [tuple(colour) for colour in ADE.palette.tolist()]
    assert len(set(colours)) == 149
    assert colours[6] == colours[48] == (140, 140, 140)


def test_cityscapes_classes_know_their_label_ids() -> None:
    assert dict(zip(CITYSCAPES.names, CITYSCAPES_LABEL_IDS, strict=True))["traffic light"] == 19
    assert CITYSCAPES_LABEL_IDS[0] == 7
    assert CITYSCAPES_LABEL_IDS[18] == 33
    assert CITYSCAPES.palette[13].tolist() == [0, 0, 142]
    assert len({tuple(colour) for colour in CITYSCAPES.palette.tolist()}) == 19


def test_camvid_colours_are_the_usual_ones() -> None:
    assert CAMVID.names[8] == "car"
    assert CAMVID.palette[8].tolist() == [64, 0, 128]


@pytest.mark.parametrize("table", [ADE, CITYSCAPES, CAMVID, SHAPES])
def test_names_are_unique_and_clean(table: ClassTable) -> None:
    assert len(set(table.names)) == len(table.names)
    assert all(name == name.strip() and name for name in table.names)


def test_a_table_survives_pickling() -> None:
    again = pickle.loads(pickle.dumps(ADE))
    assert again == ADE
    assert np.array_equal(again.palette, ADE.palette)


def test_a_users_table_needs_names_only(tmp_path: Path) -> None:
    file = tmp_path / "leaves.yaml"
    file.write_text("names: [background, leaf, stem]\n")
    table = load_class_table(file)
    assert (table.name, table.names) == ("leaves", ("background", "leaf", "stem"))
    assert np.array_equal(table.palette, distinct_palette(3))


def test_a_users_palette_takes_triples_and_hexadecimal(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text('name: mine\nnames: [a, b]\npalette: [[1, 2, 3], "#ff8000"]\n')
    table = load_class_table(file)
    assert table.name == "mine"
    assert table.palette.tolist() == [[1, 2, 3], [255, 128, 0]]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("names: [a, yes]", "class 1 is True"),
        ("names: [a, b, a]", "'a' is listed twice"),
        ("names: []", "0 classes"),
        ("names: 3", "names"),
        ("nmaes: [a]", "names"),
        ("names: [a]\ncolours: [x]", "unknown key 'colours'"),
        ("names: [a, b]\npalette: [[0, 0, 0]]", "2 colours"),
        ("names: [a]\npalette: [[0, 0, 256]]", "256"),
        ('names: [a]\npalette: ["#12345g"]', "#12345g"),
        ("names: [a\n", "cannot be read"),
    ],
)
def test_a_faulty_table_is_refused_with_file_and_fault(tmp_path: Path, text: str, named: str) -> None:
    file = tmp_path / "classes.yaml"
    file.write_text(text)
    with pytest.raises(DataError) as caught:
        load_class_table(file)
    assert named in str(caught.value)
    assert "classes" in str(caught.value)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.yaml does not exist"):
        load_class_table(tmp_path / "nowhere.yaml")


def test_generated_colours_are_all_different_and_do_not_depend_on_their_number() -> None:
    palette = distinct_palette(255)
    assert len({tuple(colour) for colour in palette.tolist()}) == 255
    assert np.array_equal(distinct_palette(12), palette[:12])


def test_the_first_twenty_generated_colours_are_far_apart() -> None:
    import cv2

    lab = cv2.cvtColor(distinct_palette(20)[None].astype(np.float32) / 255, cv2.COLOR_RGB2Lab)[0]
    distances = np.linalg.norm(lab[:, None] - lab[None], axis=-1)
    # a difference of 2.3 is just noticeable
    assert distances[~np.eye(20, dtype=bool)].min() > 15
