from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from segnext.data.reading import read_image, read_label
from segnext.errors import DataError


def _noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_an_image_comes_as_rgb(tmp_path: Path) -> None:
    pixels = _noise(5, 7, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), pixels)


def test_a_grey_image_gets_three_equal_channels(tmp_path: Path) -> None:
    Image.fromarray(_noise(5, 7)).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.shape == (5, 7, 3)
    assert np.array_equal(image[..., 0], image[..., 2])


def test_a_photograph_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90°
    Image.fromarray(_noise(8, 16, 3)).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (16, 8, 3)


def test_a_format_that_opencv_lacks_is_left_to_pillow(tmp_path: Path) -> None:
    pixels = np.repeat(_noise(4, 4, 1), 3, axis=-1)
    Image.fromarray(pixels).save(tmp_path / "a.tga")
    assert np.array_equal(read_image(tmp_path / "a.tga"), pixels)


def test_bytes_after_the_end_of_a_jpeg_do_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    Image.fromarray(_noise(16, 16, 3)).save(file)
    whole = read_image(file)
    file.write_bytes(file.read_bytes() + b"appended by some camera")
    assert np.array_equal(read_image(file), whole)


@pytest.mark.parametrize(("suffix", "lost"), [("jpg", 3), ("jpg", 200), ("jpg", 2000), ("png", 200), ("png", 9000)])
def test_a_truncated_image_is_named(tmp_path: Path, suffix: str, lost: int) -> None:
    file = tmp_path / f"cut.{suffix}"
    Image.fromarray(_noise(64, 64, 3)).save(file)
    file.write_bytes(file.read_bytes()[:-lost])
    with pytest.raises(DataError, match=rf"image .*cut\.{suffix} cannot be decoded"):
        read_image(file)


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "is empty"), (b"<html>404</html>", "is no image")], ids=["empty", "text"]
)
def test_what_is_no_image_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "x.jpg"
    file.write_bytes(content)
    with pytest.raises(DataError, match=reason):
        read_image(file)
    with pytest.raises(DataError, match=reason):
        read_label(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.jpg does not exist"):
        read_image(tmp_path / "gone.jpg")


def test_grey_values_are_the_labels(tmp_path: Path) -> None:
    label = _noise(6, 4)
    Image.fromarray(label).save(tmp_path / "a.png")
    assert np.array_equal(read_label(tmp_path / "a.png"), label)


def test_a_palette_file_gives_indices_not_colours(tmp_path: Path) -> None:
    indices = np.array([[0, 1], [2, 255]], np.uint8)
    image = Image.fromarray(indices)
    image.putpalette(_noise(768).tobytes())
    image.save(tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").mode == "P"
    assert np.array_equal(read_label(tmp_path / "a.png"), indices)


def test_a_16_bit_label_is_read_while_its_values_fit(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.array([[3, 255]], np.uint16))
    assert read_label(tmp_path / "a.png").tolist() == [[3, 255]]
    cv2.imwrite(str(tmp_path / "b.png"), np.array([[3, 26001]], np.uint16))
    with pytest.raises(DataError, match=r"b\.png holds the value 26001"):
        read_label(tmp_path / "b.png")


def test_a_one_bit_label_gives_0_and_1(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1").save(tmp_path / "a.png")
    assert read_label(tmp_path / "a.png").tolist() == [[0, 1]]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_a_colour_label_is_refused_with_a_cure(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (4, 4)).save(tmp_path / "colour.png")
    with pytest.raises(DataError, match=r"colour\.png is a colour image .*index of its class"):
        read_label(tmp_path / "colour.png")


def test_a_truncated_label_is_named(tmp_path: Path) -> None:
    file = tmp_path / "cut.png"
    Image.fromarray(_noise(64, 64)).save(file)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"label .*cut\.png cannot be decoded"):
        read_label(file)
