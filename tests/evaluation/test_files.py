"""Which files a pattern means, and what their results are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from segnext.errors import ConfigError
from segnext.evaluation.predictor import find_images, result_names


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def names(files: list[Path]) -> list[str]:
    return [file.name for file in files]


def test_of_a_folder_the_files_named_like_images_are_taken_in_order(tmp_path: Path) -> None:
    touch(tmp_path, "b.JPG", "a.png", "notes.txt", "deeper/c.png")
    assert names(find_images(str(tmp_path))) == ["a.png", "b.JPG"]


@pytest.mark.parametrize("pattern", ["", "*"])
def test_files_that_are_no_images_are_named_as_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, pattern: str
) -> None:
    touch(tmp_path, "a.png", "terms.pdf", "figure.eps")
    assert names(find_images(str(tmp_path / pattern))) == ["a.png"]
    assert "skipped, since these are no images: figure.eps, terms.pdf" in caplog.text


def test_a_pattern_takes_images_under_other_names(tmp_path: Path) -> None:
    (tmp_path / "1.dat").write_bytes(b"\xff\xd8\xff\xe0")
    touch(tmp_path, "2.dat")
    assert names(find_images(str(tmp_path / "*.dat"))) == ["1.dat"]


def test_a_file_is_taken_whatever_it_is_called(tmp_path: Path) -> None:
    touch(tmp_path, "photo")
    assert find_images(str(tmp_path / "photo")) == [tmp_path / "photo"]


def test_two_stars_reach_any_depth_and_folders_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "x/b.png", "x/y/c.png", "z.png/d.txt")
    assert names(find_images(str(tmp_path / "**/*.png"))) == ["a.png", "b.png", "c.png"]


@pytest.mark.parametrize(("pattern", "message"), [("*.png", "matches no images"), ("a.png", "does not exist")])
def test_nothing_found_is_an_error_that_names_the_pattern(tmp_path: Path, pattern: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        find_images(str(tmp_path / pattern))
    assert pattern in str(error.value)


def test_results_are_called_by_the_stem_and_by_more_where_stems_agree() -> None:
    files = [Path("/p/x/a.png"), Path("/p/x/a.jpg"), Path("/p/x/b.png"), Path("/p/y/b.png"), Path("/p/y/c.png")]
    assert result_names(files) == ["a_png", "a_jpg", "x_b_png", "y_b_png", "c"]


def test_results_that_differ_only_in_capitals_keep_apart() -> None:
    assert result_names([Path("/p/x/A.png"), Path("/p/y/a.png")]) == ["x_A_png", "y_a_png"]
