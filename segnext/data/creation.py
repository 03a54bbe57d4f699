"""From the settings of a dataset to the dataset."""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from segnext.data import folder_datasets
from segnext.data.datasets import Dataset
from segnext.data.roots import data_root
from segnext.data.settings import DatasetSettings
from segnext.data.shapes import ShapesDataset
from segnext.errors import ConfigError

__all__ = ["DATASETS", "create_dataset"]

DATASETS = ("ade", "cityscapes", "camvid", "folder", "shapes")
_PUBLISHED = {"ade": folder_datasets.ade, "camvid": folder_datasets.camvid, "cityscapes": folder_datasets.cityscapes}


def create_dataset(settings: DatasetSettings | str, *, split: str = "train", **changes: Any) -> Dataset:
    """Returns a dataset with its folders listed and its pairs checked, no file opened yet.

    Args:
        settings: of the dataset, or its name.
        split: "train", "val" or "test" (ADE20K has the first two).
        changes: with a name, the settings that differ from the default, for example ``root="/data/ade"``.

    Raises:
        ConfigError: unknown dataset or split, or a setting out of range.
        DataError: folders, images or labels are missing; the message names the first and the cure.
    """
    if isinstance(settings, str):
        settings = DatasetSettings(name=settings, **changes)
    name = settings.name
    if name == "shapes":
        length = settings.train_images if split == "train" else settings.val_images
        return ShapesDataset(split, length, settings.image_size)
    if name == "folder":
        dataset = folder_datasets.folder(
            settings.root,
            split,
            classes=settings.classes,
            reduce_zero_label=settings.reduce_zero_label,
            split_files={split: file for split, file in vars(settings.split_files).items() if file is not None},
            validation_fraction=settings.validation_fraction,
            split_seed=settings.split_seed,
        )
        return replace(dataset, reading=settings)
    if name in _PUBLISHED:
        return replace(_PUBLISHED[name](settings.root or data_root(name), split), reading=settings)
    near = get_close_matches(name, DATASETS, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"unknown dataset {name!r}: choose one of {', '.join(DATASETS)}{hint}")
