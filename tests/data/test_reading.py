from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from pairs import write_png
from PIL import Image, ImageOps

from segnext.data.headers import read_header
from segnext.data.reading import read_image, read_label
from segnext.data.settings import ReadingSettings
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


@pytest.mark.parametrize("suffix", ["png", "webp", "tiff", "bmp", "gif", "ppm"])
def test_the_formats_of_pictures_are_read(tmp_path: Path, suffix: str) -> None:
    pixels = np.repeat(_noise(4, 4, 1), 3, axis=-1)
    Image.fromarray(pixels).save(tmp_path / f"a.{suffix}", **({"lossless": True} if suffix == "webp" else {}))
    assert np.array_equal(read_image(tmp_path / f"a.{suffix}"), pixels)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("program.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        ("document.pdf", b"%PDF-1.4\n"),
        ("picture.tga", bytes([0, 0, 2, *[0] * 9, 4, 0, 4, 0, 24, 0]) + bytes(48)),
    ],
)
def test_nothing_but_pictures_is_opened_whatever_the_file_is_called(
    tmp_path: Path, name: str, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a program was started"))
    for file in (tmp_path / name, tmp_path / "a.png"):
        file.write_bytes(content)
        for read in (read_image, read_label):
            with pytest.raises(DataError, match="no image of a known format"):
                read(file)


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png is no regular file"):
        read_image(tmp_path / "a.png")


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
    ("content", "reason"),
    [(b"", "is empty"), (b"<html>404</html>", "is no image of a known format")],
    ids=["empty", "text"],
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


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_colour_label_is_refused_with_a_cure(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (4, 4)).save(tmp_path / "colour.png")
    with pytest.raises(DataError, match=r"colour\.png is a colour image .*index of its class"):
        read_label(tmp_path / "colour.png")


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("colour_type", [0, 3], ids=["grey", "palette"])
def test_label_values_are_those_stored_at_every_bit_depth(tmp_path: Path, bits: int, colour_type: int) -> None:
    if colour_type == 3 and bits == 16:
        pytest.skip("PNG has no such palette")
    label = np.arange(24, dtype=np.int64).reshape(3, 8) % min(2**bits, 256)
    write_png(tmp_path / "a.png", label, bits=bits, colour_type=colour_type)
    assert np.array_equal(read_label(tmp_path / "a.png"), label)


def test_an_opaque_grey_label_with_alpha_is_read_and_a_transparent_one_refused_as_such(tmp_path: Path) -> None:
    label = _noise(4, 5)
    alpha = Image.new("L", (5, 4), 255)
    Image.merge("LA", (Image.fromarray(label), alpha)).save(tmp_path / "opaque.png")
    assert np.array_equal(read_label(tmp_path / "opaque.png"), label)
    alpha.putpixel((0, 0), 0)
    Image.merge("LA", (Image.fromarray(label), alpha)).save(tmp_path / "holes.png")
    with pytest.raises(DataError, match=r"holes\.png is grey with transparency .*255"):
        read_label(tmp_path / "holes.png")


@pytest.mark.parametrize(("dtype", "value"), [(np.int32, -1), (np.uint16, 65535)])
def test_minus_one_is_recognised_and_the_setting_named(tmp_path: Path, dtype: type, value: int) -> None:
    suffix = "tif" if dtype is np.int32 else "png"
    Image.fromarray(np.array([[0, value]], dtype)).save(tmp_path / f"a.{suffix}")
    with pytest.raises(DataError, match=rf"the value {value}.*dataset\.label_map={{{value}: 255}}"):
        read_label(tmp_path / f"a.{suffix}")


def test_a_jpeg_is_no_label(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png", "JPEG")
    with pytest.raises(DataError, match="a JPEG file, whose format changes or stretches values"):
        read_label(tmp_path / "a.png")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_turned_as_pillow_turns_it(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = _noise(5, 7, 3)
    for suffix in ("png", "tiff"):
        Image.fromarray(pixels).save(tmp_path / f"a.{suffix}", exif=exif)
        upright = np.array(ImageOps.exif_transpose(Image.open(tmp_path / f"a.{suffix}")))
        assert np.array_equal(read_image(tmp_path / f"a.{suffix}"), upright)


@pytest.mark.parametrize(
    ("dtype", "high", "suggested"),
    [
        (np.uint16, 1000, r"\[0,1023\]"),
        (np.uint16, 4000, r"\[0,4095\]"),
        (np.uint16, 16000, r"\[0,16383\]"),
        (np.uint16, 65535, r"\[0,65535\]"),
        (np.float32, 1.0, r"\[0,1\]"),
        (np.float32, 255.0, r"\[0,255\]"),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_deep_images_need_a_range_and_the_likely_one_is_named(
    tmp_path: Path, dtype: type, high: float, suggested: str, channels: int
) -> None:
    shape = (4, 4) if channels == 1 else (4, 4, 3)
    values = np.linspace(0, high, 16 * channels).reshape(shape).astype(dtype)
    cv2.imwrite(str(tmp_path / "a.tiff"), values, [cv2.IMWRITE_TIFF_COMPRESSION, 1])
    with pytest.raises(DataError, match=rf"a\.tiff has (16|32)-bit values.*dataset\.image_range={suggested}"):
        read_image(tmp_path / "a.tiff")
    assert read_header(tmp_path / "a.tiff").deep
    image = read_image(tmp_path / "a.tiff", ReadingSettings(image_range=(0, high)))
    assert (image.min(), image.max()) == (0, 255)
    assert image.shape == (4, 4, 3)


def test_bands_beside_rgb_are_refused_and_transparency_is_not(tmp_path: Path) -> None:
    Image.fromarray(_noise(4, 4, 4), "RGBA").save(tmp_path / "alpha.tiff")
    assert read_image(tmp_path / "alpha.tiff").shape == (4, 4, 3)
    data = (tmp_path / "alpha.tiff").read_bytes()
    extra_samples = struct.pack("<HHIHH", 338, 3, 1, 2, 0)
    assert extra_samples in data
    (tmp_path / "bands.tiff").write_bytes(data.replace(extra_samples, struct.pack("<HHIHH", 338, 3, 1, 0, 0)))
    with pytest.raises(DataError, match=r"bands\.tiff has 1 band\(s\) beside grey or RGB"):
        read_image(tmp_path / "bands.tiff")


def test_a_cut_jpeg_with_its_end_marker_is_named_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.fromarray(_noise(64, 64, 3)).save(tmp_path / "cut.jpg")
    data = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2] + b"\xff\xd9")
    assert read_image(tmp_path / "cut.jpg").shape == (64, 64, 3)
    assert "cut.jpg is damaged: Corrupt JPEG data" in caplog.text


def test_jpegs_are_decoded_as_opencv_does(tmp_path: Path) -> None:
    for name, options in {"plain": {}, "progressive": {"progressive": True}, "full": {"subsampling": 0}}.items():
        Image.fromarray(_noise(33, 47, 3)).save(tmp_path / f"{name}.jpg", quality=80, **options)
        expected = cv2.cvtColor(cv2.imread(str(tmp_path / f"{name}.jpg")), cv2.COLOR_BGR2RGB)
        assert np.array_equal(read_image(tmp_path / f"{name}.jpg"), expected)


@pytest.mark.parametrize("read", [read_image, read_label])
def test_one_limit_of_pixels_holds_for_images_and_labels(tmp_path: Path, read: Callable[..., np.ndarray]) -> None:
    Image.new("L", (2000, 1000)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"has 2 megapixels, above dataset\.max_megapixels=1"):
        read(tmp_path / "a.png", ReadingSettings(max_megapixels=1))
    assert read(tmp_path / "a.png", ReadingSettings(max_megapixels=2)).shape[:2] == (1000, 2000)


def test_a_label_beyond_pillows_own_limit_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    Image.new("L", (8, 8), 3).save(tmp_path / "a.png")
    assert read_label(tmp_path / "a.png").max() == 3


def test_a_truncated_label_is_named(tmp_path: Path) -> None:
    file = tmp_path / "cut.png"
    Image.fromarray(_noise(64, 64)).save(file)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"label .*cut\.png cannot be decoded"):
        read_label(file)
