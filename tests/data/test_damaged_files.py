"""Whatever bytes a file holds, each reader returns or raises DataError, within bounded time and memory."""

from __future__ import annotations

import contextlib
import io
import itertools
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segnext.data.catalog import create_dataset
from segnext.data.classes import load_class_table
from segnext.data.headers import read_header
from segnext.data.reading import read_image, read_label
from segnext.errors import DataError

CASES = 60
SECONDS = 5.0


def picture(kind: str, **options: object) -> bytes:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (24, 40, 3), dtype=np.uint8)
    image = Image.fromarray(pixels if kind != "PNG" else pixels[..., 0])
    exif = Image.Exif()
    exif[0x0112] = 6
    out = io.BytesIO()
    image.save(out, kind, exif=exif, **options)
    return out.getvalue()


SEEDS = {kind: picture(kind) for kind in ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "PPM")}


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """The data cut, with bytes changed, or with a piece repeated or taken out."""
    content = bytearray(data)
    kind = rng.integers(4)
    at, length = int(rng.integers(len(content))), int(rng.integers(1, 64))
    if kind == 0:
        return bytes(content[:at])
    if kind == 1:
        for place in rng.integers(0, len(content), rng.integers(1, 9)):
            content[place] = rng.integers(256)
    elif kind == 2:
        content[at:at] = content[at : at + length]
    else:
        del content[at : at + length]
    return bytes(content)


def bounded(call: Callable[[], object]) -> None:
    started = time.process_time()
    with contextlib.suppress(DataError):
        call()
    assert time.process_time() - started < SECONDS


@pytest.mark.parametrize("kind", SEEDS)
@pytest.mark.parametrize("read", [read_image, read_label, read_header])
def test_mutated_pictures_are_read_or_refused(tmp_path: Path, kind: str, read: Callable[[Path], object]) -> None:
    rng = np.random.default_rng(list(kind.encode()))
    for case in range(CASES):
        file = tmp_path / f"{case}.png"
        file.write_bytes(mutated(SEEDS[kind], rng))
        bounded(lambda file=file: read(file))  # type: ignore[misc]


def test_mutated_class_tables_are_read_or_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    seed = b'name: mine\nnames: [ground, "leaf", stem]\npalette: ["#ff0000", [0, 255, 0], [0, 0, 255]]\n'
    for case in range(200):
        file = tmp_path / f"{case}.yaml"
        file.write_bytes(mutated(seed, rng))
        bounded(lambda file=file: load_class_table(file))  # type: ignore[misc]


LETTERS = "abcdefghijklmnop"
BOMBS = {
    "aliases": "\n".join(
        ["a: &a [x, x]", *(f"{b}: &{b} [*{a}, *{a}]" for a, b in itertools.pairwise(LETTERS)), "names: *p"]
    ),
    "itself": "names: &n [*n]",
    "open": "[" * 20_000,
    "deep": "names: " + "[" * 5_000 + "]" * 5_000,
    "long": "names: [" + "x, " * 50_000 + "x]",
}


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS)
def test_class_tables_that_unfold_without_end_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "classes.yaml").write_text(text)
    started = time.process_time()
    with pytest.raises(DataError, match=r"classes\.yaml"):
        load_class_table(tmp_path / "classes.yaml")
    assert time.process_time() - started < SECONDS


def test_mutated_split_files_are_read_or_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    (tmp_path / "classes.yaml").write_text("names: [ground, leaf]\n")
    for folder in ("images", "annotations"):
        (tmp_path / folder).mkdir()
        for stem in ("a", "bb", "ccc"):
            (tmp_path / folder / f"{stem}.png").write_bytes(SEEDS["PNG"])
    for _ in range(200):
        (tmp_path / "train.txt").write_bytes(mutated(b"\xef\xbb\xbfa\nbb.png\r\nccc\n", rng))
        bounded(lambda: create_dataset("folder", root=tmp_path))


def test_a_picture_that_claims_to_be_huge_takes_no_memory(tmp_path: Path) -> None:
    data = bytearray(SEEDS["PNG"])
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    (tmp_path / "a.png").write_bytes(bytes(data))
    for read in (read_image, read_label, read_header):
        with pytest.raises(DataError, match=r"3600 megapixels|cannot be decoded"):
            read(tmp_path / "a.png")
