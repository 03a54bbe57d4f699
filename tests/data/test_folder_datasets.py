from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pairs import WritePair

from segnext.data.catalog import create_dataset
from segnext.data.datasets import FileDataset, reduce_zero
from segnext.data.settings import SplitFiles
from segnext.errors import ConfigError, DataError


def make_ade(root: Path, write_pair: WritePair, label: int = 1) -> None:
    for part, stems in (("training", ("b", "a")), ("validation", ("c",))):
        for stem in stems:
            write_pair(root / f"images/{part}/{stem}.jpg", root / f"annotations/{part}/{stem}.png", label)


def make_cityscapes(root: Path, write_pair: WritePair, end: str = "labelTrainIds", label: int = 18) -> None:
    for split, city, number in (("train", "zurich", 0), ("train", "aachen", 1), ("val", "ulm", 2)):
        stem = f"{city}_{number:06d}_000019"
        write_pair(
            root / f"leftImg8bit/{split}/{city}/{stem}_leftImg8bit.png",
            root / f"gtFine/{split}/{city}/{stem}_gtFine_{end}.png",
            label,
        )


def make_folder(root: Path, write_pair: WritePair, stems: str = "abcdefghij", part: str = "", label: int = 1) -> None:
    (root / "classes.yaml").parent.mkdir(parents=True, exist_ok=True)
    (root / "classes.yaml").write_text("names: [ground, leaf]\n")
    for stem in stems:
        write_pair(root / f"images{part}/{stem}.jpg", root / f"annotations{part}/{stem}.png", label)


def names(dataset: FileDataset) -> list[str]:
    return [dataset.name(index) for index in range(len(dataset))]


def files(**settings: object) -> FileDataset:
    dataset = create_dataset(settings.pop("name"), **settings)  # type: ignore[arg-type]
    assert isinstance(dataset, FileDataset)
    return dataset


class TestAde:
    def test_pairs_are_found_and_the_zero_label_is_reduced(self, tmp_path: Path, write_pair: WritePair) -> None:
        make_ade(tmp_path, write_pair)
        label = np.array([[0, 1, 150, 255]], np.uint8)
        write_pair(tmp_path / "images/validation/c.jpg", tmp_path / "annotations/validation/c.png", label)
        dataset = files(name="ade", root=tmp_path, split="val")
        assert names(dataset) == ["c"]
        assert dataset.read(0).label.tolist() == [[255, 0, 149, 255]]
        assert names(files(name="ade", root=tmp_path, split="train")) == ["a", "b"]

    def test_a_value_above_150_is_refused_by_name(self, tmp_path: Path, write_pair: WritePair) -> None:
        make_ade(tmp_path, write_pair, label=151)
        with pytest.raises(DataError, match=r"a\.png holds the value 151, which is no class.*take 1 to 150"):
            files(name="ade", root=tmp_path).read(0)

    def test_there_is_no_test_split_with_labels(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="no labelled split 'test': choose one of train, val"):
            create_dataset("ade", root=tmp_path, split="test")

    @pytest.mark.shared_data
    def test_real_images_are_read_as_published(self, shared_data: Path) -> None:
        dataset = files(name="ade", root=shared_data / "ade_sample", split="val")
        assert names(dataset) == ["ADE_val_00000001", "ADE_val_00000002"]
        image, label = dataset.read(0)
        assert image.shape[:2] == label.shape
        assert set(np.unique(label)) - {255} <= set(range(150))


class TestCityscapes:
    def test_pairs_are_found_in_the_order_of_file_names(self, tmp_path: Path, write_pair: WritePair) -> None:
        make_cityscapes(tmp_path, write_pair)
        dataset = files(name="cityscapes", root=tmp_path)
        assert names(dataset) == ["aachen/aachen_000001_000019", "zurich/zurich_000000_000019"]
        assert dataset.read(0).label.max() == 18

    def test_missing_train_ids_lead_to_prepare(self, tmp_path: Path, write_pair: WritePair) -> None:
        make_cityscapes(tmp_path, write_pair, end="labelIds")
        with pytest.raises(DataError, match=r"2 of 2 .*aachen.*`python -m runners\.prepare dataset=cityscapes"):
            create_dataset("cityscapes", root=tmp_path)

    def test_label_ids_in_disguise_lead_to_prepare(self, tmp_path: Path, write_pair: WritePair) -> None:
        make_cityscapes(tmp_path, write_pair, label=26)
        with pytest.raises(DataError, match=r"holds the value 26.*labelIds instead of labelTrainIds.*runners\.prepare"):
            files(name="cityscapes", root=tmp_path).read(0)


class TestCamvid:
    def test_pairs_are_found(self, tmp_path: Path, write_pair: WritePair) -> None:
        write_pair(tmp_path / "images/test/x.jpg", tmp_path / "annotations/test/x.png", 10)
        assert names(files(name="camvid", root=tmp_path, split="test")) == ["x"]

    @pytest.mark.shared_data
    def test_the_real_images_are_complete(self, shared_data: Path) -> None:
        for split, count in (("train", 367), ("val", 101)):
            dataset = create_dataset("camvid", root=shared_data / "camvid", split=split)
            assert len(dataset) == count
            assert dataset.read(0).image.shape == (360, 480, 3)


class TestFolder:
    def test_sub_folders_are_splits(self, tmp_path: Path, write_pair: WritePair) -> None:
        make_folder(tmp_path, write_pair, "ab", "/train")
        make_folder(tmp_path, write_pair, "c", "/val")
        assert names(files(name="folder", root=tmp_path, split="train")) == ["a", "b"]
        dataset = files(name="folder", root=tmp_path, split="val")
        assert names(dataset) == ["c"]
        assert dataset.classes.names == ("ground", "leaf")

    def test_text_files_may_list_the_stems(self, tmp_path: Path, write_pair: WritePair) -> None:
        make_folder(tmp_path, write_pair)
        (tmp_path / "train.txt").write_text("c\n\na.jpg\nc\n")
        assert names(files(name="folder", root=tmp_path)) == ["c", "a"]
        (tmp_path / "mine.lst").write_text("j\n")
        dataset = files(name="folder", root=tmp_path, split="val", split_files=SplitFiles(val="mine.lst"))
        assert names(dataset) == ["j"]

    def test_a_listed_stem_without_image_is_named(self, tmp_path: Path, write_pair: WritePair) -> None:
        make_folder(tmp_path, write_pair)
        (tmp_path / "train.txt").write_text("a\nq\n")
        with pytest.raises(DataError, match=r"train\.txt lists 'q'"):
            create_dataset("folder", root=tmp_path)

    def test_otherwise_the_split_is_drawn_from_a_seed(self, tmp_path: Path, write_pair: WritePair) -> None:
        make_folder(tmp_path, write_pair)

        def part(split: str, seed: int = 0) -> list[str]:
            return names(files(name="folder", root=tmp_path, split=split, validation_fraction=0.3, split_seed=seed))

        assert [len(part("train")), len(part("val"))] == [7, 3]
        assert sorted(part("train") + part("val")) == list("abcdefghij")
        assert part("val") == part("val")
        assert any(part("val", seed) != part("val") for seed in range(1, 5))

    def test_the_class_table_may_lie_elsewhere(self, tmp_path: Path, write_pair: WritePair) -> None:
        make_folder(tmp_path / "data", write_pair)
        (tmp_path / "other.yaml").write_text("names: [x, y, z]\n")
        dataset = files(name="folder", root=tmp_path / "data", classes=tmp_path / "other.yaml")
        assert dataset.classes.names == ("x", "y", "z")

    def test_a_value_outside_the_classes_suggests_the_zero_label(self, tmp_path: Path, write_pair: WritePair) -> None:
        make_folder(tmp_path, write_pair, label=2)
        with pytest.raises(
            DataError, match=r"value 2, which is no class.*take 0 to 1.*dataset\.reduce_zero_label=true"
        ):
            files(name="folder", root=tmp_path).read(0)
        assert files(name="folder", root=tmp_path, reduce_zero_label=True).read(0).label.max() == 1

    def test_two_images_of_one_stem_are_refused(self, tmp_path: Path, write_pair: WritePair) -> None:
        make_folder(tmp_path, write_pair)
        write_pair(tmp_path / "images/a.png", tmp_path / "annotations/a.png")
        with pytest.raises(DataError, match="same stem"):
            create_dataset("folder", root=tmp_path)

    def test_the_fraction_must_leave_both_parts(self, tmp_path: Path, write_pair: WritePair) -> None:
        make_folder(tmp_path, write_pair)
        with pytest.raises(ConfigError, match=r"validation_fraction=1\.5"):
            create_dataset("folder", root=tmp_path, validation_fraction=1.5)


class TestWhatIsMissing:
    @pytest.mark.parametrize("name", ["ade", "cityscapes", "camvid", "folder"])
    def test_no_root_is_explained(self, name: str) -> None:
        what = " is not set" if name == "folder" else "=data/.* does not exist or is no folder"
        with pytest.raises(DataError, match=rf"dataset\.root{what}; set dataset\.root to the folder that holds"):
            create_dataset(name)

    def test_a_root_that_does_not_exist_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"dataset\.root=.*nowhere does not exist.*images/\{training,validation\}"):
            create_dataset("ade", root=tmp_path / "nowhere")

    def test_the_folder_one_level_further_down_is_suggested(self, tmp_path: Path, write_pair: WritePair) -> None:
        make_ade(tmp_path / "ADEChallengeData2016", write_pair)
        with pytest.raises(DataError, match=r"did you mean dataset\.root=.*ADEChallengeData2016\?"):
            create_dataset("ade", root=tmp_path)

    def test_an_empty_folder_is_named(self, tmp_path: Path) -> None:
        for part in ("images/train", "annotations/train"):
            (tmp_path / part).mkdir(parents=True)
        with pytest.raises(DataError, match=r"images/train holds no image"):
            create_dataset("camvid", root=tmp_path)

    def test_an_image_without_label_is_named_and_counted(self, tmp_path: Path, write_pair: WritePair) -> None:
        make_ade(tmp_path, write_pair)
        (tmp_path / "annotations/training/a.png").unlink()
        with pytest.raises(
            DataError, match=r"1 of 2 images have no label, the first is .*a\.jpg \(expected .*a\.png\)"
        ):
            create_dataset("ade", root=tmp_path)

    def test_a_label_without_image_is_only_counted(self, tmp_path: Path, write_pair: WritePair) -> None:
        make_ade(tmp_path, write_pair)
        (tmp_path / "images/training/a.jpg").unlink()
        dataset = files(name="ade", root=tmp_path)
        assert names(dataset) == ["b"]
        assert dataset.unused_labels == 1

    def test_an_unknown_dataset_gets_the_nearest_name(self) -> None:
        with pytest.raises(ConfigError, match="did you mean 'cityscapes'"):
            create_dataset("citiscapes")


class TestReading:
    def test_zero_becomes_ignore_and_255_stays(self) -> None:
        assert reduce_zero(np.array([[0, 1, 2, 254, 255]], np.uint8)).tolist() == [[255, 0, 1, 253, 255]]

    def test_sizes_of_image_and_label_must_agree(self, tmp_path: Path, write_pair: WritePair) -> None:
        make_ade(tmp_path, write_pair)
        write_pair(tmp_path / "images/other.jpg", tmp_path / "annotations/training/a.png", np.ones((5, 7), np.uint8))
        with pytest.raises(DataError, match=r"a\.jpg is 12×8 .*a\.png is 7×5"):
            files(name="ade", root=tmp_path).read(0)

    def test_all_values_outside_are_counted(self, tmp_path: Path, write_pair: WritePair) -> None:
        make_folder(tmp_path, write_pair, "a", "/train")
        label = np.array([[0, 9, 7, 255]], np.uint8)
        write_pair(tmp_path / "images/train/a.jpg", tmp_path / "annotations/train/a.png", label)
        with pytest.raises(DataError, match="value 7 and 1 more"):
            files(name="folder", root=tmp_path).read(0)
