from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from segnext.errors import DataError
from segnext.plots.overlays import label_png, legend, overlay, present_classes, side_by_side

PALETTE = np.array([[200, 0, 0], [0, 200, 0], [0, 0, 200]], np.uint8)
NAMES = ("wall", "bed ", "swivel chair, office chair, desk chair")


def test_a_label_png_keeps_class_numbers_and_shows_palette_colours() -> None:
    label = np.array([[0, 1], [2, 255]], np.int64)
    image = label_png(label, PALETTE)
    assert image.mode == "P"
    assert np.asarray(image).tolist() == label.tolist()
    assert np.asarray(image.convert("RGB")).tolist() == [[[200, 0, 0], [0, 200, 0]], [[0, 0, 200], [0, 0, 0]]]


def test_an_overlay_mixes_image_and_colour_by_alpha() -> None:
    image = np.full((4, 4, 3), 100, np.uint8)
    picture = overlay(image, np.zeros((4, 4), np.uint8), PALETTE, alpha=0.25)
    assert picture[0, 0].tolist() == [125, 75, 75]


def test_ignored_pixels_stay_uncoloured_and_borders_are_dark() -> None:
    image = np.full((4, 6, 3), 100, np.uint8)
    label = np.full((4, 6), 255, np.uint8)
    label[:, 3:] = 1
    picture = overlay(image, label, PALETTE, alpha=1.0)
    assert (picture[:, :2] == 100).all()
    assert (picture[:, 2] == 35).all()
    assert (picture[:, 3:] == PALETTE[1]).all()


def test_the_overlay_leaves_its_inputs_alone() -> None:
    image = np.full((4, 4, 3), 100, np.uint8)
    overlay(image, np.eye(4, dtype=np.uint8), PALETTE)
    assert (image == 100).all()


def test_a_label_of_another_size_is_refused() -> None:
    with pytest.raises(DataError, match="give a label of the image"):
        overlay(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), np.uint8), PALETTE)


def test_present_classes_come_largest_first_without_the_ignored() -> None:
    assert present_classes(np.array([[2, 2, 2, 0, 255, -1]]), np.array([[1, 1]]), classes=3) == [2, 1, 0]


@pytest.mark.parametrize(("count", "width"), [(1, 200), (3, 120), (3, 2000)])
def test_a_legend_has_the_width_asked_for_and_every_colour(count: int, width: int) -> None:
    strip = legend(NAMES, PALETTE, classes=list(range(count)), width=width)
    assert strip.shape[1] == width
    colours = {tuple(c) for c in strip.reshape(-1, 3).tolist()}
    assert {tuple(c) for c in PALETTE[:count].tolist()} <= colours


def test_a_legend_of_150_classes_is_laid_out_in_columns() -> None:
    palette = np.random.default_rng(0).integers(0, 255, (150, 3)).astype(np.uint8)
    wide = legend(["a class"] * 150, palette, classes=list(range(150)), width=1600)
    narrow = legend(["a class"] * 150, palette, classes=list(range(150)), width=200)
    assert len(wide) < len(narrow) / 5


@pytest.mark.parametrize(("truth", "panels"), [(True, 3), (False, 2)])
def test_side_by_side_has_a_panel_each_and_a_legend(truth: bool, panels: int) -> None:
    label = np.zeros((30, 60), np.uint8)
    page = side_by_side(
        np.full((30, 60, 3), 90, np.uint8),
        label if truth else None,
        label + 1,
        names=NAMES,
        palette=PALETTE,
        title="a.jpg",
        panel_width=200,
    )
    assert isinstance(page, Image.Image)
    assert page.width == panels * 212 + 12
    colours = {colour for _, colour in page.getcolors(page.width * page.height) or []}
    assert tuple(PALETTE[1]) in colours
    assert (tuple(PALETTE[0]) in colours) == truth
