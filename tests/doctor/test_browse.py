from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segnext.data.catalog import create_dataset
from segnext.data.settings import DatasetSettings
from segnext.doctor.browse import browse_page
from segnext.doctor.dataset import examine_dataset
from tests.browser import Browser, needs_browser

CLASSES = "names: [sky, road, car]\n"


@pytest.fixture
def settings(tmp_path: Path) -> DatasetSettings:
    """Ten training pairs: one ignored everywhere, one much larger, one with the rare class; two for validation."""
    for split, count in (("train", 10), ("val", 2)):
        for kind in ("images", "annotations"):
            (tmp_path / kind / split).mkdir(parents=True)
        for k in range(count):
            height, width = (320, 400) if (split, k) == ("train", 3) else (32, 40)
            rng = np.random.default_rng(k)
            image = rng.integers(0, 255, (height, width, 3)).astype(np.uint8)
            label = (np.arange(width)[None] // 20 % 2).repeat(height, axis=0).astype(np.uint8)
            if k == 1:
                label[:] = 255
            if k == 2:
                label[:8, :8] = 2
            Image.fromarray(image).save(tmp_path / "images" / split / f"{k}.jpg")
            Image.fromarray(label).save(tmp_path / "annotations" / split / f"{k}.png")
    (tmp_path / "classes.yaml").write_text(CLASSES)
    return DatasetSettings(name="folder", root=str(tmp_path), classes=str(tmp_path / "classes.yaml"), crop=(32, 32))


def page_of(settings: DatasetSettings) -> str:
    examination = examine_dataset(lambda split: create_dataset(settings, split=split))
    return browse_page(examination, title="mine <1>", augmentation=settings)


def test_the_page_shows_classes_sizes_and_pairs_that_deserve_a_look(settings: DatasetSettings) -> None:
    page = page_of(settings)
    assert "mine &lt;1&gt;" in page
    assert "almost all ignored (1 pairs)" in page
    assert "1 · 100 % ignored" in page
    assert "2 · car: in 1 images" in page
    assert "3 · 400×320" in page
    assert '<td>40×32</td><td class="number">9</td>' in page
    assert page.count(">draw ") == 8


def test_the_same_seed_shows_the_same_pairs(settings: DatasetSettings) -> None:
    assert page_of(settings) == page_of(settings)


@pytest.mark.browser
@needs_browser
@pytest.mark.parametrize("width", [400, 1280])
def test_the_page_fits_its_window(width: int, settings: DatasetSettings, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(page_of(settings), encoding="utf-8")
    with Browser(width) as browser:
        browser.open(file.as_uri())
        assert browser.run("document.documentElement.scrollWidth <= innerWidth")
        assert browser.run("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
        assert browser.problems == []
