"""From the name of a dataset to the dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from segnext.data import folder_datasets
from segnext.data.classes import ClassTable
from segnext.data.datasets import Dataset
from segnext.data.reading import ReadingSettings
from segnext.data.shapes import ShapesDataset
from segnext.errors import ConfigError

__all__ = ["DATASETS", "create_dataset"]

DATASETS = ("ade", "cityscapes", "camvid", "folder", "shapes")
_PUBLISHED = {"ade": folder_datasets.ade, "camvid": folder_datasets.camvid, "cityscapes": folder_datasets.cityscapes}


def create_dataset(
    name: str,
    *,
    root: str | Path | None = None,
    split: str = "train",
    classes: str | Path | ClassTable | None = None,
    reduce_zero_label: bool = False,
    split_files: Mapping[str, str | Path] | None = None,
    validation_fraction: float = 0.2,
    split_seed: int = 0,
    size: tuple[int, int] = (96, 96),
    length: int = 200,
    seed: int = 0,
    reading: ReadingSettings | None = None,
) -> Dataset:
    """Returns the dataset called ``name``, with its folders listed and its pairs checked, no file opened yet.

    Args:
        root: the folder of all but ``shapes``.
        split: "train", "val" or "test" (ADE20K has the first two).
        classes, reduce_zero_label, split_files, validation_fraction, split_seed: of ``folder``; see there.
        reading: how the files are read: label_map, EXIF, range of values, limit of size.
        size, length, seed: of ``shapes``: (height, width) in pixels, number of images, seed of the drawing.

    Raises:
        ConfigError: unknown dataset or split.
        DataError: folders, images or labels are missing; the message names the first and the cure.
    """
    if name == "shapes":
        return ShapesDataset(split, length, (size[0], size[1]), seed)
    if name == "folder":
        dataset = folder_datasets.folder(
            root,
            split,
            classes=classes,
            reduce_zero_label=reduce_zero_label,
            split_files=split_files,
            validation_fraction=validation_fraction,
            split_seed=split_seed,
        )
        return dataset if reading is None else replace(dataset, reading=reading)
    if name in _PUBLISHED:
        dataset = _PUBLISHED[name](root, split)
        return dataset if reading is None else replace(dataset, reading=reading)
    near = get_close_matches(name, DATASETS, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"unknown dataset {name!r}: choose one of {', '.join(DATASETS)}{hint}")
