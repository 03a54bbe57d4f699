from __future__ import annotations

from pathlib import Path

import pytest
from pairs import WritePair

from segnext.data import preparation
from segnext.data.preparation import DOWNLOAD_URL, take_inventory


def test_a_missing_folder_leads_to_the_download(tmp_path: Path) -> None:
    inventory = take_inventory(tmp_path / "data/ADEChallengeData2016")
    assert not inventory.complete
    assert set(inventory.found.values()) == {0}
    assert inventory.published["images/training"] == 20210
    assert any(DOWNLOAD_URL in command for command in inventory.instructions)
    assert inventory.instructions[-1].startswith("unzip")
    assert inventory.instructions[-1].endswith(f"-d {tmp_path / 'data'}")


def test_an_archive_on_disk_need_only_be_unpacked(tmp_path: Path) -> None:
    (tmp_path / "ADEChallengeData2016.zip").touch()
    assert len(take_inventory(tmp_path / "ADEChallengeData2016").instructions) == 1


def test_a_root_of_another_name_is_corrected(tmp_path: Path) -> None:
    assert "dataset.root=" in take_inventory(tmp_path / "ade").instructions[-1]


def test_a_complete_folder_needs_nothing(
    tmp_path: Path, write_pair: WritePair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "_PUBLISHED", {"training": 2, "validation": 1})
    for part, stems in (("training", "ab"), ("validation", "c")):
        for stem in stems:
            write_pair(tmp_path / f"images/{part}/{stem}.jpg", tmp_path / f"annotations/{part}/{stem}.png")
    assert take_inventory(tmp_path).complete
    assert take_inventory(tmp_path).instructions == []
    (tmp_path / "annotations/training/b.png").rename(tmp_path / "annotations/training/x.png")
    inventory = take_inventory(tmp_path)
    assert inventory.unpaired == ("images/training/b.jpg",)
    assert not inventory.complete
