"""The datasets known by name: from settings to a dataset with its files listed, everything missing named."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from segnext.data.classes import ADE, CAMVID, CITYSCAPES, ClassTable, class_file, load_class_table
from segnext.data.datasets import Dataset, FileDataset, FilePair
from segnext.data.headers import IMAGE_SUFFIXES
from segnext.data.settings import ROOTS, DatasetSettings, data_root, root_advice
from segnext.data.shapes import ShapesDataset
from segnext.errors import ConfigError, DataError

__all__ = ["DATASETS", "SPLITS", "create_dataset", "list_files"]

SPLITS = ("train", "val", "test")

_LABEL_SUFFIXES = (".png",)


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
    if name not in _DATASETS:
        near = get_close_matches(name, DATASETS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"unknown dataset {name!r}: choose one of {', '.join(DATASETS)}{hint}")
    if name in ROOTS and not settings.root:
        settings = replace(settings, root=data_root(name))
    return _DATASETS[name](settings, split)


def _ade(settings: DatasetSettings, split: str) -> FileDataset:
    """ADE20K scene parsing: ``images/{training,validation}/*.jpg``, ``annotations/…/*.png`` with 0 = other."""
    return _images_and_annotations(
        settings,
        split,
        {"train": "training", "val": "validation"},
        ADE,
        suffixes=(".jpg",),
        reduce_zero_label=True,
        cure="ADE20K's own files hold 0 to 150; `python -m runners.prepare dataset=ade` checks what is on disk",
    )


def _camvid(settings: DatasetSettings, split: str) -> FileDataset:
    """CamVid, SegNet's selection: ``images/{train,val,test}/*.jpg``, ``annotations/…/*.png``, 11 classes."""
    return _images_and_annotations(
        settings,
        split,
        dict(zip(SPLITS, SPLITS, strict=True)),
        CAMVID,
        suffixes=(".jpg", ".png"),
        cure="CamVid's unlabelled pixels (11 in SegNet's files) must be 255",
    )


def _images_and_annotations(
    settings: DatasetSettings,
    split: str,
    parts: Mapping[str, str],
    classes: ClassTable,
    *,
    suffixes: tuple[str, ...],
    cure: str,
    reduce_zero_label: bool = False,
) -> FileDataset:
    """Pairs in ``images/PART`` and ``annotations/PART``; ``parts`` names the folder of each split."""
    _require_split(split, parts, settings.name)
    folders = "{" + ",".join(parts.values()) + "}"
    layout = f"images/{folders}/*.jpg and annotations/{folders}/*.png"
    images, labels = f"images/{parts[split]}", f"annotations/{parts[split]}"
    base = _require_root(settings, layout, (images, labels))
    dataset = _pair_by_stem(base, images, labels, classes, suffixes=suffixes)
    return replace(dataset, reduce_zero_label=reduce_zero_label, cure=cure, reading=settings)


def _cityscapes(settings: DatasetSettings, split: str) -> FileDataset:
    """Cityscapes: ``leftImg8bit/SPLIT/CITY/*_leftImg8bit.png``, ``gtFine/…_gtFine_labelTrainIds.png``."""
    image_end, label_end = "_leftImg8bit.png", "_gtFine_labelTrainIds.png"
    layout = "leftImg8bit/{train,val}/<city>/*_leftImg8bit.png and gtFine/{train,val}/<city>/*_labelTrainIds.png"
    _require_split(split, SPLITS, "cityscapes")
    image_folder, label_folder = f"leftImg8bit/{split}", f"gtFine/{split}"
    base = _require_root(settings, layout, (image_folder, label_folder))
    prepare = f"run `python -m runners.prepare dataset=cityscapes dataset.root={base}` to make the labelTrainIds files"
    images = list_files(base / image_folder, (image_end,))
    labels = set(list_files(base / label_folder, (label_end,)))
    wanted = [(path, path[: -len(image_end)] + label_end) for path in images]
    _require_images(images, base / image_folder, f"*{image_end}")
    missing = [(image, label) for image, label in wanted if label not in labels]
    if missing:
        image, label = missing[0]
        raise DataError(
            f"{len(missing)} of {len(images)} Cityscapes images have no labelTrainIds, the first is "
            f"{base / image_folder / image} (expected {base / label_folder / label}); {prepare}"
        )
    # the official list is in the order of file names, not of cities
    wanted.sort(key=lambda pair: PurePosixPath(pair[0]).name)
    return FileDataset(
        CITYSCAPES,
        str(base),
        tuple(
            FilePair(image[: -len(image_end)], f"{image_folder}/{image}", f"{label_folder}/{label}")
            for image, label in wanted
        ),
        cure=f"These look like labelIds instead of labelTrainIds: remove the file and {prepare}",
        unused_labels=len(labels) - len(images),
        reading=settings,
    )


def _folder(settings: DatasetSettings, split: str) -> FileDataset:
    """The user's own images and label PNGs of the same stem, under ``images/`` and ``annotations/``.

    The split is found in this order:

    1. ``split_files``: text files that list stems, one a line, relative to the root;
    2. sub-folders ``images/SPLIT`` and ``annotations/SPLIT``;
    3. ``train.txt``, ``val.txt`` … in the root, of the same kind as 1;
    4. otherwise ``validation_fraction`` of all pairs, drawn with ``split_seed``, is "val" and the rest "train".
    """
    layout = "images/ and annotations/ with files of the same stem, in both or in sub-folders train/ and val/ of both"
    _require_split(split, SPLITS, "folder")
    base = _require_root(settings, layout, ("images", "annotations"))
    table = load_class_table(class_file(settings))
    cure = (
        "Add the missing classes to the class table, or mark pixels to be left out with 255"
        if settings.reduce_zero_label
        else "If 0 means 'other' and classes count from 1, set dataset.reduce_zero_label=true; if the label was "
        "resized or saved with smooth edges, make it anew"
    )

    def pair(part: str = "", listing: Path | None = None) -> FileDataset:
        dataset = _pair_by_stem(base, f"images{part}", f"annotations{part}", table, listing=listing)
        return replace(dataset, reduce_zero_label=settings.reduce_zero_label, cure=cure, reading=settings)

    split_files = {name: file for name, file in vars(settings.split_files).items() if file is not None}
    if split_files:
        if split not in split_files:
            raise DataError(f"dataset.split_files has no entry {split!r}, only {', '.join(split_files)}; add one")
        return pair(listing=base / split_files[split])
    if any((base / "images" / name).is_dir() for name in SPLITS):
        for top in ("images", "annotations"):
            if not (base / top / split).is_dir():
                raise DataError(f"folder {base / top / split} does not exist; create it, or give dataset.split_files")
        return pair(f"/{split}")
    listing = base / f"{split}.txt"
    if listing.is_file():
        return pair(listing=listing)
    return _random_part(pair(), split, settings.validation_fraction, settings.split_seed)


def _shapes(settings: DatasetSettings, split: str) -> ShapesDataset:
    length = settings.train_images if split == "train" else settings.val_images
    return ShapesDataset(split, length, settings.image_size)


_DATASETS: dict[str, Callable[[DatasetSettings, str], Dataset]] = {
    "ade": _ade,
    "cityscapes": _cityscapes,
    "camvid": _camvid,
    "folder": _folder,
    "shapes": _shapes,
}
DATASETS = tuple(_DATASETS)


def _random_part(whole: FileDataset, split: str, validation_fraction: float, seed: int) -> FileDataset:
    if split == "test":
        raise DataError(
            f"{whole.root} has no split 'test': create images/test and annotations/test, or give dataset.split_files"
        )
    if len(whole) < 2:
        raise DataError(f"{whole.root} holds one pair only; a split into train and val needs two or more")
    held_out = min(max(round(len(whole) * validation_fraction), 1), len(whole) - 1)
    order = np.random.default_rng(seed).permutation(len(whole))
    chosen = order[:held_out] if split == "val" else order[held_out:]
    pairs = tuple(whole.pairs[i] for i in sorted(chosen.tolist()))
    return replace(whole, pairs=pairs)


def list_files(top: str | Path, suffixes: tuple[str, ...]) -> list[str]:
    """Paths (POSIX, relative, sorted) of the files under ``top`` that end in one of the suffixes, in any case.

    Hidden files and folders are left out.
    """
    ends = tuple(suffix.lower() for suffix in suffixes)
    found: list[str] = []
    for folder_path, folders, files in os.walk(top, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        relative = os.path.relpath(folder_path, top).replace(os.sep, "/")
        prefix = "" if relative == "." else relative + "/"
        found.extend(prefix + name for name in files if name.lower().endswith(ends) and not name.startswith("."))
    return sorted(found)


def _require_split(split: str, known: Iterable[str], dataset: str) -> None:
    if split not in known:
        raise ConfigError(f"dataset {dataset} has no labelled split {split!r}: choose one of {', '.join(known)}")


def _require_root(settings: DatasetSettings, layout: str, needed: tuple[str, ...]) -> Path:
    """The root as a path; DataError unless it holds the folders that are ``needed``."""
    root, dataset = settings.root, settings.name
    cure = f"set dataset.root to the folder that holds {layout}"
    if not root:
        raise DataError(f"dataset {dataset} needs files, and dataset.root is not set; {cure}")
    base = Path(root).expanduser()
    if not base.is_dir():
        if dataset in ROOTS:
            cure += f"; {root_advice(dataset)}"
        raise DataError(f"dataset.root={root} does not exist or is no folder; {cure}")
    for folder_name in needed:
        if not (base / folder_name).is_dir():
            top = needed[0].split("/")[0]
            inner = next((entry for entry in sorted(base.iterdir()) if (entry / top).is_dir()), None)
            if inner is not None and not (base / top).is_dir():
                cure = f"did you mean dataset.root={inner}?"
            raise DataError(f"dataset.root={root} has no folder {folder_name}; {cure}")
    return base


def _require_images(images: list[str], where: Path, pattern: str) -> None:
    if not images:
        raise DataError(f"folder {where} holds no image ({pattern}); put the images there or correct dataset.root")


def _read_stems(listing: Path) -> list[str]:
    try:
        if not listing.is_file():  # a pipe would be waited for without end
            raise DataError(f"split file {listing} does not exist or is no file; it must list one stem a line")
        # file names are bytes, UTF-8 or not; some editors put a byte-order mark before them
        text = listing.read_bytes().removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    except OSError as error:
        raise DataError(f"split file {listing} cannot be read: {error}; it must list one stem a line") from error
    stems = [line.strip() for line in text.splitlines() if line.strip()]
    if not stems:
        raise DataError(f"split file {listing} is empty; it must list one stem a line")
    return stems


def _by_stem(files: list[str], where: Path) -> dict[str, str]:
    """Paths by stem, in composed Unicode: some systems write é as one letter, others as e with an accent."""
    stems: dict[str, str] = {}
    for file in files:
        stem = _composed(_stem(file))
        if stem in stems:
            raise DataError(f"{where / stems[stem]} and {where / file} have the same stem; rename or remove one")
        stems[stem] = file
    return stems


def _composed(name: str) -> str:
    """A file's name as text: in UTF-8, whatever the locale says, and with accents that are part of their letters."""
    return unicodedata.normalize("NFC", os.fsencode(name).decode("utf-8", "surrogateescape"))


def _stem(file: str) -> str:
    return str(PurePosixPath(file).with_suffix(""))


def _pair_by_stem(
    base: Path,
    image_folder: str,
    label_folder: str,
    classes: ClassTable,
    *,
    suffixes: tuple[str, ...] = IMAGE_SUFFIXES,
    listing: Path | None = None,
) -> FileDataset:
    """Images and labels of the same stem in two folders of ``base``; with a ``listing``, of the stems in that file."""
    image_files = list_files(base / image_folder, suffixes)
    _require_images(image_files, base / image_folder, ", ".join(f"*{suffix}" for suffix in suffixes))
    images = _by_stem(image_files, base / image_folder)
    labels = _by_stem(list_files(base / label_folder, _LABEL_SUFFIXES), base / label_folder)
    wanted = list(images) if listing is None else _listed_stems(listing, images, suffixes, base / image_folder)
    missing = [stem for stem in wanted if stem not in labels]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(wanted)} images have no label, the first is "
            f"{base / image_folder / images[missing[0]]} (expected {base / label_folder / missing[0]}.png"
            f"{_neighbours(base / label_folder, missing[0])}); add the labels or remove the images"
        )
    pairs = tuple(
        FilePair(_composed(_stem(images[stem])), f"{image_folder}/{images[stem]}", f"{label_folder}/{labels[stem]}")
        for stem in wanted
    )
    unused = len(labels.keys() - images.keys())
    return FileDataset(classes, str(base), pairs, unused_labels=unused)


def _neighbours(label_folder: Path, stem: str) -> str:
    """Files that may be meant for the label of ``stem``: another suffix, or more than the stem in the name."""
    wanted = label_folder / stem
    try:
        names = sorted(entry.name for entry in wanted.parent.iterdir())
    except (OSError, ValueError):  # ValueError: the locale has no word for the folder
        return ""
    for name in names:
        plain = _composed(name)
        if plain.lower().startswith(wanted.name.lower()) and not plain[len(wanted.name) :][:1].isalnum():
            return f"; is {name} meant? Labels are PNG files with the image's own stem"
    return ""


def _listed_stems(listing: Path, images: Mapping[str, str], suffixes: tuple[str, ...], where: Path) -> list[str]:
    """The listed stems, each once; a listed file name with its suffix is understood, too."""
    known: dict[str, None] = {}
    for entry in _read_stems(listing):
        stem = unicodedata.normalize("NFC", entry)
        if stem not in images and entry.lower().endswith((*suffixes, *_LABEL_SUFFIXES)):
            stem = _stem(stem)
        if stem not in images:
            raise DataError(f"{listing} lists {entry!r}, but {where} has no image of that stem; correct the list")
        known[stem] = None
    return list(known)
