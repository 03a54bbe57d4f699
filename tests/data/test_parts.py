"""Rows of a TIFF are the same whether all of it is decoded or the tiles and strips that they lie in."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from segnext.data.headers import read_header
from segnext.data.parts import is_read_in_parts, open_in_parts
from segnext.data.settings import ReadingSettings
from segnext.errors import DataError

HEIGHT, WIDTH = 70, 45
RGB = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)

STORED: dict[str, dict[str, Any]] = {
    "tiles": {"tile": (16, 32)},
    "deflated tiles": {"tile": (32, 16), "compression": "zlib", "predictor": True},
    "strips": {"rowsperstrip": 7},
    "deflated strips": {"rowsperstrip": 7, "compression": "zlib"},
    "big endian": {"tile": (16, 16), "byteorder": ">"},
    "beyond 4 GiB": {"tile": (16, 16), "bigtiff": True},
}


def rows_of(path: Path, start: int, stop: int, settings: ReadingSettings | None = None) -> np.ndarray:
    with open_in_parts(path, settings or ReadingSettings()) as parts:
        return parts.rows(start, stop)


@pytest.mark.parametrize("stored", STORED.values(), ids=STORED)
def test_any_rows_are_those_that_were_stored(stored: dict[str, Any], tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", RGB, photometric="rgb", **stored)
    with open_in_parts(tmp_path / "a.tif", ReadingSettings()) as parts:
        assert (parts.height, parts.width) == (HEIGHT, WIDTH)
        for start, stop in ((0, HEIGHT), (0, 1), (13, 40), (32, 48), (HEIGHT - 1, HEIGHT)):
            assert np.array_equal(parts.rows(start, stop), RGB[start:stop])


def test_bands_that_lie_apart_grey_and_alpha_become_rgb(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "planes.tif", RGB.transpose(2, 0, 1), photometric="rgb", planarconfig="separate", tile=(16, 16)
    )
    assert np.array_equal(rows_of(tmp_path / "planes.tif", 20, 50), RGB[20:50])
    tifffile.imwrite(tmp_path / "grey.tif", RGB[:, :, 0], photometric="minisblack", tile=(16, 16))
    assert np.array_equal(rows_of(tmp_path / "grey.tif", 20, 50), RGB[20:50, :, [0, 0, 0]])
    alpha = np.dstack([RGB, RGB[:, :, 0]])
    tifffile.imwrite(tmp_path / "alpha.tif", alpha, photometric="rgb", extrasamples=["unassalpha"], tile=(16, 16))
    assert np.array_equal(rows_of(tmp_path / "alpha.tif", 20, 50), RGB[20:50])


def test_deep_values_are_mapped_by_the_image_range(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "deep.tif", RGB.astype(np.uint16) * 257, photometric="rgb", tile=(16, 16))
    with pytest.raises(DataError, match=r"dataset\.image_range="):
        rows_of(tmp_path / "deep.tif", 0, 9)
    assert np.array_equal(rows_of(tmp_path / "deep.tif", 9, 30, ReadingSettings(image_range=(0, 65535))), RGB[9:30])


@pytest.mark.parametrize("big", [False, True])
def test_above_the_limit_a_tiff_is_read_in_parts_and_nothing_else(big: bool, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", RGB, photometric="rgb", bigtiff=big)
    Image.fromarray(RGB).save(tmp_path / "a.png")
    assert read_header(tmp_path / "a.tif")[:3] == ("TIFF", HEIGHT, WIDTH)
    small, large = (ReadingSettings(max_megapixels=HEIGHT * WIDTH / 1e6 * share) for share in (0.9, 1.1))
    assert is_read_in_parts(tmp_path / "a.tif", small)
    assert not is_read_in_parts(tmp_path / "a.tif", large)
    assert not is_read_in_parts(tmp_path / "a.png", small)


def test_a_part_that_is_too_large_itself_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", RGB, photometric="rgb", rowsperstrip=HEIGHT)
    with pytest.raises(DataError, match=r"a\.tif lies in pieces of .*save it in tiles"):
        rows_of(tmp_path / "a.tif", 0, 9, ReadingSettings(max_megapixels=0.002))


def test_what_cannot_be_read_in_parts_is_refused_with_a_cure(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "turned.tif", RGB, photometric="rgb", extratags=[(274, 3, 1, 6, True)])
    tifffile.imwrite(tmp_path / "bands.tif", np.dstack([RGB, RGB]), photometric="rgb", planarconfig="contig")
    Image.fromarray(RGB).quantize(16).save(tmp_path / "palette.tif")
    for name, message in (("turned", "save it upright"), ("bands", "band"), ("palette", "neither grey nor RGB")):
        with pytest.raises(DataError, match=rf"{name}\.tif.*{message}"):
            rows_of(tmp_path / f"{name}.tif", 0, 9)


@pytest.mark.skipif(find_spec("imagecodecs") is not None, reason="imagecodecs reads it")
def test_a_compression_that_takes_another_package_names_it(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.tif", compression="tiff_lzw")
    with pytest.raises(DataError, match="pip install imagecodecs"):
        rows_of(tmp_path / "a.tif", 0, 9)


def test_a_cut_file_is_named(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", RGB, photometric="rgb", tile=(16, 16), compression="zlib")
    data = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"a\.tif cannot be decoded"):
        rows_of(tmp_path / "a.tif", 0, HEIGHT)
