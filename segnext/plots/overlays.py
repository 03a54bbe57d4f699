"""Pictures of labels: palette PNGs, overlays, legends, and an image beside its true and predicted labels.

Images are (H, W, 3) uint8 RGB, labels (H, W) integers, palettes (K, 3) uint8 RGB; labels outside 0…K-1 (255 = ignore)
stay uncoloured. Nothing here opens a window; curves and charts are in ``charts.py``.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from segnext.errors import DataError

__all__ = [
    "label_png", "label_png_by_rows", "legend", "overlay", "overlay_with_legend", "present_classes", "side_by_side",
]  # fmt: skip

RGB = NDArray[np.uint8]
Label = NDArray[np.integer[Any]]

_INK, _PAPER, _EDGE = (26, 26, 26), (255, 255, 255), (150, 150, 150)


def label_png(label: Label, palette: RGB) -> Image.Image:
    """``label`` as a palette image: pixel values are the class numbers, colours the palette's; 255 is black."""
    image = Image.fromarray(np.ascontiguousarray(label, dtype=np.uint8))
    image.putpalette(_palette_table(palette).ravel().tolist())  # turns grey into a palette image, the values stay
    return image


@contextlib.contextmanager
def label_png_by_rows(path: Path, size: tuple[int, int], palette: RGB) -> Iterator[Callable[[Label], None]]:
    """Yields what takes the labels (rows, W) from top to bottom; the file of ``label_png`` is there after the last.

    Args:
        size: (height, width) in pixels.
        palette: (K, 3) colours of the classes.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with open(unfinished, "wb") as file:
            packer = zlib.compressobj()

            def chunk(kind: bytes, data: bytes) -> None:
                checksum = zlib.crc32(data, zlib.crc32(kind))
                file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum))

            def write(labels: Label) -> None:
                rows = np.zeros((len(labels), size[1] + 1), np.uint8)  # the first byte: stored as they are
                rows[:, 1:] = labels
                chunk(b"IDAT", packer.compress(rows.data))

            file.write(b"\x89PNG\r\n\x1a\n")
            chunk(b"IHDR", struct.pack(">IIBBBBB", size[1], size[0], 8, 3, 0, 0, 0))  # 8 bits, with a palette
            chunk(b"PLTE", _palette_table(palette).tobytes())
            yield write
            chunk(b"IDAT", packer.flush())
            chunk(b"IEND", b"")
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _palette_table(palette: RGB) -> RGB:
    """(256, 3) colours of the values of a label PNG, those of no class black."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = palette
    return table


def overlay(image: RGB, label: Label, palette: RGB, alpha: float = 0.55) -> RGB:
    """Colours ``image`` by class: ``alpha`` 0 leaves the image, 1 shows flat colours; class borders are dark lines.

    Raises:
        DataError: image and label differ in size.
    """
    _same_size(image, label)
    known = (label >= 0) & (label < len(palette))
    colours = palette[np.where(known, label, 0)]
    mixed = np.rint((1 - alpha) * image + alpha * colours.astype(np.float32)).astype(np.uint8)
    picture = np.where(known[..., None], mixed, image)
    picture[_borders(label)] = (picture[_borders(label)] * 0.35).astype(np.uint8)
    return picture


def _borders(label: Label) -> NDArray[np.bool_]:
    """Pixels whose right or lower neighbour has another label."""
    edges = np.zeros(label.shape, bool)
    edges[:, :-1] |= label[:, :-1] != label[:, 1:]
    edges[:-1] |= label[:-1] != label[1:]
    return edges


def present_classes(*labels: Label, classes: int) -> list[int]:
    """Numbers of the classes in ``labels``, the one with most pixels first; labels outside 0…classes-1 don't count."""
    counts = sum(np.bincount(x[(x >= 0) & (x < classes)].ravel(), minlength=classes) for x in labels)
    counts = np.asarray(counts)
    return [int(k) for k in np.argsort(-counts, kind="stable") if counts[k] > 0]


def legend(names: Sequence[str], palette: RGB, *, classes: Sequence[int], width: int, size: int = 16) -> RGB:
    """A strip ``width`` pixels wide with a swatch and the name of each of ``classes``, in columns.

    ``size`` is the height of the letters in pixels. Names too long for the strip end in an ellipsis.
    """
    font = _font(size)
    line, swatch, gap = round(size * 1.6), size, size // 2
    longest = max((font.getlength(names[k].strip()) for k in classes), default=0)
    cell = int(min(swatch + gap + longest + 2 * size, width - 2 * gap))
    columns = max(1, (width - gap) // max(cell, 1))
    rows = -(-len(classes) // columns)
    strip = Image.new("RGB", (width, max(1, rows * line + gap)), _PAPER)
    draw = ImageDraw.Draw(strip)
    for place, k in enumerate(classes):
        column, row = place % columns, place // columns
        x, y = gap + column * cell, gap // 2 + row * line
        box = (x, y + (line - swatch) // 2, x + swatch, y + (line + swatch) // 2)
        draw.rectangle(box, fill=tuple(int(c) for c in palette[k]), outline=_EDGE)
        name = _shortened(names[k].strip(), font, cell - swatch - 2 * gap)
        draw.text((x + swatch + gap, y + line / 2), name, fill=_INK, font=font, anchor="lm")
    return np.asarray(strip)


def overlay_with_legend(image: RGB, labels: Label, names: Sequence[str], palette: RGB, alpha: float) -> RGB:
    """``overlay`` above the names of the classes in it, letters in proportion to the image."""
    coloured = overlay(image, labels, palette, alpha)
    width = max(coloured.shape[1], 240)
    strip = legend(
        names,
        palette,
        classes=present_classes(labels, classes=len(names)),
        width=width,
        size=int(np.clip(width // 50, 12, 64)),
    )
    page = np.full((len(coloured) + len(strip), width, 3), 255, np.uint8)
    page[: len(coloured), : coloured.shape[1]] = coloured
    page[len(coloured) :] = strip
    return page


def side_by_side(
    image: RGB,
    truth: Label | None,
    prediction: Label,
    *,
    names: Sequence[str],
    palette: RGB,
    title: str = "",
    panel_width: int = 640,
) -> Image.Image:
    """Image, true labels (left out when None) and predicted labels in a row, with a legend of the classes present."""
    for label in (truth, prediction):
        if label is not None:
            _same_size(image, label)
    height, width = image.shape[:2]
    size = (panel_width, max(1, round(height * panel_width / width)))
    method = cv2.INTER_AREA if panel_width < width else cv2.INTER_LINEAR
    small = np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)

    def coloured(label: Label) -> RGB:
        fitted = cv2.resize(label.astype(np.int16), size, interpolation=cv2.INTER_NEAREST)
        return overlay(small, np.asarray(fitted), palette)

    panels = [("image", small)]
    if truth is not None:
        panels.append(("truth", coloured(truth)))
    panels.append(("prediction", coloured(prediction)))

    letters, margin = 16, 12
    head = 2 * letters if title else margin
    caption = round(letters * 1.7)
    total = len(panels) * (panel_width + margin) + margin
    labels = [x for x in (truth, prediction) if x is not None]
    classes = present_classes(*labels, classes=len(palette))
    strip = legend(names, palette, classes=classes, width=total - 2 * margin, size=letters)
    page = Image.new("RGB", (total, head + caption + size[1] + margin + len(strip) + margin), _PAPER)
    draw = ImageDraw.Draw(page)
    if title:
        text = _shortened(title, _font(letters), total - 2 * margin)
        draw.text((margin, head / 2 + 2), text, fill=_INK, font=_font(letters), anchor="lm")
    for place, (name, panel) in enumerate(panels):
        x = margin + place * (panel_width + margin)
        draw.text((x, head + caption / 2), name, fill=_INK, font=_font(letters), anchor="lm")
        page.paste(Image.fromarray(panel), (x, head + caption))
    page.paste(Image.fromarray(strip), (margin, head + caption + size[1] + margin))
    return page


def _same_size(image: RGB, label: Label) -> None:
    if image.shape[:2] != label.shape:
        raise DataError(
            f"the image is {image.shape[:2]} (height, width), its label {label.shape}: give a label of the image"
        )


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along: it knows the alphabets that Pillow's own font lacks."""
    package = find_spec("matplotlib")  # found and not imported, which takes longer than drawing
    assert package is not None
    assert package.origin is not None
    return ImageFont.truetype(str(Path(package.origin).with_name("mpl-data") / "fonts/ttf/DejaVuSans.ttf"), size)


def _shortened(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
