from __future__ import annotations

import numpy as np
import pytest

from segnext.data.catalog import create_dataset
from segnext.data.classes import SHAPES
from segnext.data.shapes import ShapesDataset
from segnext.errors import ConfigError


def test_an_image_is_a_function_of_seed_split_and_index() -> None:
    first = ShapesDataset("train", 4).read(3)
    again = ShapesDataset("train", 9).read(3)
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.label, again.label)


@pytest.mark.parametrize(
    "other",
    [ShapesDataset("val", 4), ShapesDataset("train", 4, seed=1)],
    ids=["another split", "another seed"],
)
def test_splits_and_seeds_share_no_image(other: ShapesDataset) -> None:
    assert not np.array_equal(ShapesDataset("train", 4).read(3).image, other.read(3).image)


def test_samples_have_the_size_and_types_asked_for() -> None:
    image, label = ShapesDataset("val", 1, size=(40, 64)).read(0)
    assert (image.shape, image.dtype) == ((40, 64, 3), np.uint8)
    assert (label.shape, label.dtype) == ((40, 64), np.uint8)


def test_every_class_occurs_and_a_constant_prediction_scores_badly() -> None:
    dataset = ShapesDataset("val", 100)
    pixels = np.bincount(np.concatenate([dataset.read(i).label.ravel() for i in range(100)]), minlength=6)
    share = pixels / pixels.sum()
    assert len(share) == len(SHAPES)
    assert share.min() > 0.03
    # predicting one class everywhere has its share as the IoU of that class, and 0 for all others
    assert share.max() / len(SHAPES) < 0.15


def test_colour_alone_is_not_enough() -> None:
    # the best guess from the colour of a single pixel, learnt on 300 images
    def colours_and_labels(split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
        samples = [ShapesDataset(split, count).read(index) for index in range(count)]
        images = np.stack([sample.image for sample in samples]).astype(np.int64) // 16
        colours = images[..., 0] * 256 + images[..., 1] * 16 + images[..., 2]
        return colours.ravel(), np.stack([sample.label for sample in samples]).ravel().astype(np.int64)

    colours, labels = colours_and_labels("train", 300)
    counts = np.bincount(colours * 6 + labels, minlength=4096 * 6).reshape(4096, 6)
    colours, labels = colours_and_labels("val", 60)
    confusion = np.bincount(labels * 6 + counts.argmax(axis=1)[colours], minlength=36).reshape(6, 6)
    hits = np.diag(confusion)
    iou = hits / (confusion.sum(axis=0) + confusion.sum(axis=1) - hits)
    assert 0.2 < iou.mean() < 0.5


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"split": "training"}, "training"), ({"train_images": 0}, "0"), ({"image_size": (16, 96)}, "16")],
)
def test_impossible_settings_are_refused(settings: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        create_dataset("shapes", **{"split": "train", "train_images": 4, **settings})  # type: ignore[arg-type]
