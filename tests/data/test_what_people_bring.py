"""Files as people bring them: right result or one clear line, from the doctor and before training alike."""

from __future__ import annotations

import os
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pairs import write_png
from PIL import Image

from segnext.data.catalog import create_dataset
from segnext.data.datasets import Dataset
from segnext.data.inspection import check_training_data, inspect_dataset
from segnext.data.label_cache import LabelCache
from segnext.data.loader import EvaluationLoader
from segnext.data.settings import Exif, ReadingSettings
from segnext.doctor.dataset import examine_dataset
from segnext.errors import DataError

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
LABEL = np.array([[0, 1, 1], [0, 0, 1]], np.uint8)


def photo(path: Path, *, size: tuple[int, int] = (2, 3), orientation: int | None = None) -> None:
    """An image of (height, width) with its left upper corner white, saved without loss."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((*size, 3), 50, np.uint8)
    pixels[0, 0] = 255
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)


def make(root: Path, labels: dict[str, NDArray[np.integer]], *, classes: str = "[ground, leaf]", bits: int = 8) -> None:
    """A folder whose splits train and val both hold the labels."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "classes.yaml").write_text(f"names: {classes}\n")
    for split in ("train", "val"):
        for stem, label in labels.items():
            photo(root / f"images/{split}/{split}-{stem}.png", size=label.shape)
            write_png(root / f"annotations/{split}/{split}-{stem}.png", label, bits=bits)


def create(root: Path, split: str = "train", **reading: object) -> Dataset:
    return create_dataset("folder", root=root, split=split, **reading)  # type: ignore[arg-type]


def said_before_training(root: Path, **reading: object) -> str:
    """Everything that the check says, error or warnings."""
    try:
        return "\n".join(check_training_data(create(root, **reading), create(root, "val", **reading)))
    except DataError as error:
        return f"refused: {error}"


def said_by_doctor(root: Path, **reading: object) -> str:
    examination = examine_dataset(lambda split: create(root, split, **reading))
    return "\n".join(f"{finding.state.value}: {finding.text}" for finding in examination.findings)


class TestIgnoredForeground:
    def test_a_mask_of_0_and_255_is_refused_with_the_setting_that_cures_it(self, tmp_path: Path) -> None:
        make(tmp_path, {"a": LABEL * 255, "b": LABEL * 255})
        for said in (said_before_training(tmp_path), said_by_doctor(tmp_path)):
            assert "every labelled pixel is ground" in said
            assert "'dataset.label_map={255: 1}'" in said
        assert "problem" in said_by_doctor(tmp_path)
        assert said_before_training(tmp_path, label_map={255: 1}) == ""
        assert "problem" not in said_by_doctor(tmp_path, label_map={255: 1})
        assert create(tmp_path, label_map={255: 1}).read(0).label.tolist() == LABEL.tolist()

    def test_a_class_that_no_training_label_has_is_named(self, tmp_path: Path) -> None:
        make(tmp_path, {"a": np.array([[0, 1, 255]])}, classes="[ground, leaf, stem]")
        said = said_before_training(tmp_path)
        assert "train: no label has the class stem; 255 means 'ignore' (33.3 % of the pixels)" in said
        assert "problem: no label has the class stem" in said_by_doctor(tmp_path)
        assert "no label has" not in said_before_training(tmp_path, label_map={255: 255})

    def test_a_share_of_ignored_pixels_that_looks_wrong_is_named(self, tmp_path: Path) -> None:
        label = np.full((10, 10), 255)
        label[0, :2] = (0, 1)
        make(tmp_path, {"a": label})
        assert "98 % of all pixels are ignored" in said_before_training(tmp_path)
        assert "problem: 98 % of all pixels are ignored" in said_by_doctor(tmp_path)

    def test_one_class_alone_is_refused(self, tmp_path: Path) -> None:
        make(tmp_path, {"a": LABEL * 0}, classes="[ground]")
        assert "refused: train: the class table has one class, ground" in said_before_training(tmp_path)
        assert "problem: the class table has one class" in said_by_doctor(tmp_path)

    def test_a_validation_that_is_ignored_everywhere_is_refused(self, tmp_path: Path) -> None:
        make(tmp_path, {"a": LABEL})
        write_png(tmp_path / "annotations/val/val-a.png", np.full((2, 3), 255))
        assert "refused: val: every pixel of every label is ignored" in said_before_training(tmp_path)
        assert "problem: every pixel of every label is ignored" in said_by_doctor(tmp_path)


class TestStoredValues:
    def test_labels_of_all_bit_depths_in_one_folder_are_read_alike(self, tmp_path: Path) -> None:
        depths = (1, 2, 4, 8, 16)
        make(
            tmp_path, {str(bits): LABEL for bits in depths}, classes="[" + ", ".join(f"c{k}" for k in range(254)) + "]"
        )
        for split in ("train", "val"):
            for bits in depths:
                write_png(tmp_path / f"annotations/{split}/{split}-{bits}.png", LABEL, bits=bits)
        dataset = create(tmp_path)
        assert [dataset.read(k).label.tolist() for k in range(len(dataset))] == [LABEL.tolist()] * len(depths)
        assert inspect_dataset(dataset).class_pixels[:3].tolist() == [15, 15, 0]

    def test_minus_one_in_16_bits_is_explained_and_can_be_mapped(self, tmp_path: Path) -> None:
        make(tmp_path, {"a": np.array([[0, 1, 65535]])}, bits=16)
        for said in (said_before_training(tmp_path), said_by_doctor(tmp_path)):
            assert "65535, which is -1 in 16 bits" in said
            assert "'dataset.label_map={65535: 255}'" in said
        assert create(tmp_path, label_map={65535: 255}).read(0).label.tolist() == [[0, 1, 255]]
        assert said_before_training(tmp_path, label_map={65535: 255}) == ""


class TestPalettes:
    def palette_label(self, root: Path, split: str, stem: str, label: NDArray[np.integer], *palette: tuple) -> None:
        photo(root / f"images/{split}/{split}-{stem}.png")
        write_png(root / f"annotations/{split}/{split}-{stem}.png", label, colour_type=3, palette=palette)

    def test_renumbered_palettes_are_read_by_colour_where_the_table_has_colours(self, tmp_path: Path) -> None:
        (tmp_path / "classes.yaml").write_text('names: [r, g, b]\npalette: ["#ff0000", "#00ff00", "#0000ff"]\n')
        for split in ("train", "val"):
            self.palette_label(tmp_path, split, "plain", np.array([[0, 1, 2], [0, 0, 0]]), RED, GREEN, BLUE)
            self.palette_label(tmp_path, split, "small", np.array([[0, 1, 1], [0, 0, 0]]), GREEN, BLUE)
        dataset = create(tmp_path)
        assert dataset.read(0).label.tolist() == [[0, 1, 2], [0, 0, 0]]
        assert dataset.read(1).label.tolist() == [[1, 2, 2], [1, 1, 1]]
        assert said_before_training(tmp_path) == ""
        assert inspect_dataset(dataset).class_pixels.tolist() == [4, 5, 3]

    def test_a_colour_of_no_class_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "classes.yaml").write_text('names: [r, g]\npalette: ["#ff0000", "#00ff00"]\n')
        for split in ("train", "val"):
            self.palette_label(tmp_path, split, "a", np.array([[0, 1, 1], [0, 0, 0]]), BLUE, GREEN)
        for said in (said_before_training(tmp_path), said_by_doctor(tmp_path)):
            assert "the colour of its index 0, #0000ff, is that of no class" in said
            assert "save the labels as grey PNGs" in said

    def test_without_colours_in_the_table_files_that_disagree_with_each_other_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "classes.yaml").write_text("names: [r, g]\n")
        for split in ("train", "val"):
            self.palette_label(tmp_path, split, "a", np.array([[0, 1, 1], [0, 0, 0]]), RED, GREEN)
            self.palette_label(tmp_path, split, "b", np.array([[0, 1, 1], [0, 0, 0]]), GREEN, RED)
        for said in (said_before_training(tmp_path), said_by_doctor(tmp_path)):
            assert "#00ff00 is the value 0 here and 1 in train-a" in said


class TestExif:
    @pytest.mark.parametrize("orientation", [2, 3, 4, 5, 6, 7, 8])
    def test_what_cannot_be_decided_is_refused_and_settings_decide_it(self, tmp_path: Path, orientation: int) -> None:
        label = np.array([[1, 0, 0], [0, 0, 0], [0, 0, 0]])  # marks the stored white corner
        make(tmp_path, {"a": label})
        for split in ("train", "val"):
            photo(tmp_path / f"images/{split}/{split}-a.png", size=(3, 3), orientation=orientation)
        for said in (said_before_training(tmp_path), said_by_doctor(tmp_path)):
            assert f"has the EXIF orientation {orientation}" in said
            assert "dataset.exif=image" in said
            assert "dataset.exif=both" in said
        image, turned = create(tmp_path, exif=Exif.both).read(0)
        assert ((image[..., 0] == 255) == (turned == 1)).all()
        assert create(tmp_path, exif=Exif.image).read(0).label.tolist() == label.tolist()

    @pytest.mark.parametrize("orientation", [5, 6, 7, 8])
    def test_a_size_that_fits_one_way_only_decides(self, tmp_path: Path, orientation: int) -> None:
        stored = np.array([[1, 0, 0], [0, 0, 0]])
        make(tmp_path, {"a": stored, "b": stored.T * 0 + 1})
        for split in ("train", "val"):
            for stem in "ab":
                photo(tmp_path / f"images/{split}/{split}-{stem}.png", size=(2, 3), orientation=orientation)
        dataset = create(tmp_path)
        image, turned = dataset.read(0)
        assert ((image[..., 0] == 255) == (turned == 1)).all()
        assert dataset.read(1).label.tolist() == [[1, 1]] * 3
        assert said_before_training(tmp_path) == ""

    def test_a_label_that_tells_its_own_orientation_is_believed(self, tmp_path: Path) -> None:
        make(tmp_path, {"a": LABEL})
        exif = Image.Exif()
        exif[0x0112] = 3
        for split in ("train", "val"):
            photo(tmp_path / f"images/{split}/{split}-a.png", size=(2, 3), orientation=3)
            Image.fromarray(LABEL).save(tmp_path / f"annotations/{split}/{split}-a.png", exif=exif)
        assert create(tmp_path).read(0).label.tolist() == LABEL[::-1, ::-1].tolist()


class TestImages:
    @pytest.mark.parametrize("bits", [10, 12, 14, 16])
    def test_deep_images_need_the_range_that_the_message_names(self, tmp_path: Path, bits: int) -> None:
        make(tmp_path, {"a": LABEL})
        for split in ("train", "val"):
            write_png(tmp_path / f"images/{split}/{split}-a.png", LABEL.astype(np.int64) * (2**bits - 2), bits=16)
        setting = f"dataset.image_range=[0,{2**bits - 1}]"
        for said in (said_before_training(tmp_path), said_by_doctor(tmp_path)):
            assert setting in said
        image = create(tmp_path, image_range=(0, 2**bits - 1)).read(0).image
        assert image[..., 0].tolist() == (LABEL * 255).tolist()
        assert said_before_training(tmp_path, image_range=(0, 2**bits - 1)) == ""

    def make_deep_images(self, root: Path, *brightest: int) -> None:
        make(root, {str(k): LABEL for k in range(len(brightest))})
        for split in ("train", "val"):
            for k, value in enumerate(brightest):
                write_png(root / f"images/{split}/{split}-{k}.png", LABEL.astype(np.int64) * value, bits=16)

    def test_the_range_is_that_of_all_images_together(self, tmp_path: Path) -> None:
        self.make_deep_images(tmp_path, 900, 4011)
        for said in (said_before_training(tmp_path), said_by_doctor(tmp_path)):
            assert "4 images have more than 8 bits, train-0 for one; their values go from 0 to 4011" in said
            assert "'dataset.image_range=[0,4095]'" in said

    def test_what_the_range_makes_of_the_images_is_said_once_it_is_set(self, tmp_path: Path) -> None:
        self.make_deep_images(tmp_path, 900, 4011)
        set_to = {"image_range": (0, 4095)}
        notes: list[str] = []
        assert (
            check_training_data(create(tmp_path, **set_to), create(tmp_path, "val", **set_to), note=notes.append) == []
        )
        assert notes == [
            "4 images have more than 8 bits, train-0 for one; dataset.image_range=[0,4095] makes the first value black "
            "and the second white"
        ]
        assert "ok: 4 images have more than 8 bits" in said_by_doctor(tmp_path, **set_to)
        assert "problem" not in said_by_doctor(tmp_path, **set_to)

    @pytest.mark.parametrize(
        ("image_range", "doubt"), [((0, 1), "50 % of the values lie outside of it"), ((0, 1e6), "a small part of it")]
    )
    def test_a_range_that_makes_images_of_one_colour_is_no_healthy_one(
        self, tmp_path: Path, image_range: tuple[float, float], doubt: str
    ) -> None:
        self.make_deep_images(tmp_path, 900, 4011)
        assert doubt in said_by_doctor(tmp_path, image_range=image_range)
        assert "problem: 4 images" in said_by_doctor(tmp_path, image_range=image_range)

    def make_cut_jpegs(self, root: Path) -> None:
        make(root, {"a": np.resize(LABEL, (64, 64))})
        for split in ("train", "val"):
            noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
            (root / f"images/{split}/{split}-a.png").unlink()
            file = root / f"images/{split}/{split}-a.jpg"
            Image.fromarray(noise).save(file)
            file.write_bytes(file.read_bytes()[:1500] + b"\xff\xd9")

    def test_the_doctor_names_a_jpeg_whose_data_are_cut(self, tmp_path: Path) -> None:
        self.make_cut_jpegs(tmp_path)
        assert "problem: train-a: the image is damaged: Corrupt JPEG data" in said_by_doctor(tmp_path)

    @pytest.mark.parametrize("workers", [0, 1])
    def test_the_loaders_log_names_it_once(
        self, tmp_path: Path, workers: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        self.make_cut_jpegs(tmp_path)
        for _ in range(2):
            with EvaluationLoader(create(tmp_path), indices=[0, 0], workers=workers) as loader:
                assert len(list(loader)) == 2
        assert caplog.text.count("train-a.jpg is damaged: Corrupt JPEG data") == 1


class TestNames:
    def test_composed_and_decomposed_accents_are_one_name(self, tmp_path: Path) -> None:
        make(tmp_path, {"a": LABEL})
        composed, decomposed = (unicodedata.normalize(form, "fée") for form in ("NFC", "NFD"))
        photo(tmp_path / f"images/train/{composed}.png")
        write_png(tmp_path / f"annotations/train/{decomposed}.png", LABEL)
        assert len(create(tmp_path)) == 2

    def test_names_are_the_same_text_in_a_locale_without_utf_8(self, tmp_path: Path) -> None:
        for folder in ("images", "annotations"):
            write_png(tmp_path / folder / "f\u00e9e.png", LABEL)
            write_png(tmp_path / folder / "b.png", LABEL)
        (tmp_path / "classes.yaml").write_text("names: [ground, leaf]\n")
        (tmp_path / "train.txt").write_text("f\u00e9e\n", encoding="utf-8")
        (tmp_path / "val.txt").write_text("b\n", encoding="utf-8")
        code = (
            "from segnext.data.catalog import create_dataset\n"
            f"dataset = create_dataset('folder', root={str(tmp_path)!r})\n"
            "print(ascii(dataset.name(0)), dataset.read(0).label.tolist())"
        )
        bare = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
        done = subprocess.run(
            [sys.executable, "-c", code], env=os.environ | bare, capture_output=True, text=True, check=False
        )
        assert done.stdout.strip() == rf"'f\xe9e' {LABEL.tolist()}", done.stderr

    def test_a_name_that_is_no_utf_8_is_read_and_listed(self, tmp_path: Path) -> None:
        make(tmp_path, {"a": LABEL})
        name = "caf\udce9"
        for folder, write in (("images", photo), ("annotations", lambda path: write_png(path, LABEL))):
            (tmp_path / folder / "train").rename(tmp_path / folder / "rest")
            write(tmp_path / folder / f"{name}.png")
            write(tmp_path / folder / "b.png")
        for folder in ("images", "annotations"):
            for part in ("rest", "val"):
                for file in (tmp_path / folder / part).iterdir():
                    file.unlink()
                (tmp_path / folder / part).rmdir()
        (tmp_path / "train.txt").write_bytes(b"\xef\xbb\xbfcaf\xe9\nb\n")  # with a byte-order mark
        dataset = create(tmp_path)
        assert [dataset.name(k) for k in range(2)] == [name, "b"]
        assert dataset.read(0).label.tolist() == LABEL.tolist()

    @pytest.mark.parametrize("neighbour", ["a_mask.png", "a.tif", "a-labels.png"])
    def test_a_label_under_a_similar_name_is_mentioned(self, tmp_path: Path, neighbour: str) -> None:
        make(tmp_path, {"b": LABEL})
        photo(tmp_path / "images/train/a.png")
        write_png(tmp_path / "annotations/train" / neighbour, LABEL)
        with pytest.raises(DataError, match=rf"is {neighbour} meant\?"):
            create(tmp_path)


class TestTheCheckBeforeTraining:
    def bad_value(self, root: Path) -> None:
        write_png(root / "annotations/val/val-7.png", LABEL + 7)

    def wrong_size(self, root: Path) -> None:
        write_png(root / "annotations/val/val-7.png", np.zeros((4, 4), np.int64))

    def cut(self, root: Path) -> None:
        file = root / "annotations/val/val-7.png"
        file.write_bytes(file.read_bytes()[:50])

    def empty(self, root: Path) -> None:
        (root / "annotations/val/val-7.png").write_bytes(b"")

    def no_image(self, root: Path) -> None:
        (root / "images/val/val-7.png").write_bytes(b"oops")

    @pytest.mark.parametrize("fault", [bad_value, wrong_size, cut, empty, no_image])
    def test_one_bad_file_among_many_is_found_and_named(self, tmp_path: Path, fault: Callable[..., None]) -> None:
        make(tmp_path, {str(k): LABEL for k in range(12)})
        assert said_before_training(tmp_path) == ""
        fault(self, tmp_path)
        said = said_before_training(tmp_path)
        assert said.startswith("refused")
        assert "val-7" in said

    def test_what_was_read_once_is_remembered_until_the_file_changes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SEGNEXT_HOME", str(tmp_path / "home"))
        monkeypatch.setattr("segnext.data.label_cache._WORTHWHILE", 1)
        make(tmp_path, {"a": LABEL, "b": LABEL})
        first = inspect_dataset(create(tmp_path), decode=False)
        read: list[str] = []
        original = LabelCache.open(tmp_path).summary.__globals__["read_stored_label"]

        def counting(path: Path, settings: ReadingSettings) -> object:
            read.append(path.name)
            return original(path, settings)

        monkeypatch.setattr("segnext.data.label_cache.read_stored_label", counting)
        again = inspect_dataset(create(tmp_path), decode=False)
        assert read == []
        assert again.stored_pixels.tolist() == first.stored_pixels.tolist()
        write_png(tmp_path / "annotations/train/train-b.png", LABEL * 0)
        changed = inspect_dataset(create(tmp_path), decode=False)
        assert read == ["train-b.png"]
        assert changed.class_pixels.tolist() == [9, 3]

    @pytest.mark.parametrize("content", ["", "[1]", '{"version": 1, "entries": {"x": 3}}', "[" * 100_000])
    def test_a_damaged_cache_is_done_without(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
    ) -> None:
        monkeypatch.setenv("SEGNEXT_HOME", str(tmp_path / "home"))
        make(tmp_path, {"a": LABEL})
        cache = LabelCache.open(tmp_path).file
        cache.parent.mkdir(parents=True)
        cache.write_text(content.replace('"x"', f'"{tmp_path}/annotations/train/train-a.png"'))
        assert said_before_training(tmp_path) == ""

    def test_progress_is_told_for_both_splits(self, tmp_path: Path) -> None:
        make(tmp_path, {"a": LABEL, "b": LABEL})
        told: list[tuple[str, int, int]] = []
        check_training_data(
            create(tmp_path), create(tmp_path, "val"), progress=lambda *step: told.append(step), workers=2
        )
        assert told == [("train", 1, 2), ("train", 2, 2), ("val", 1, 2), ("val", 2, 2)]
