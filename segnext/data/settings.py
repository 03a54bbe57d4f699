"""The settings of data: what a dataset is, how training changes its images, how a test shows them to the model.

Each class is what the library works with and, at once, the group of conf/ that Hydra checks. An object of one is always
sound: making it raises ConfigError otherwise, naming the setting as the command line does.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from segnext.errors import ConfigError
from segnext.files import read_yaml
from segnext.settings import MISSING, Settings, require

__all__ = [
    "MULTI_SCALE_RATIOS",
    "ROOTS",
    "AugmentationSettings",
    "Bases",
    "DatasetSettings",
    "Exif",
    "InferenceSettings",
    "ReadingSettings",
    "SplitFiles",
    "Windows",
    "data_root",
    "root_advice",
]

MULTI_SCALE_RATIOS = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
SMALLEST_INPUT = 32  # pixels: one cell of the last backbone stage


class Windows(str, Enum):
    """``whole``: the image at once; ``slide``: a window that moves over it."""

    whole = "whole"
    slide = "slide"


class Bases(str, Enum):
    """``per_image``: the random NMF bases of every pass follow from the image's name; ``fixed``: all are the same."""

    per_image = "per_image"
    fixed = "fixed"


@dataclass
class InferenceSettings(Settings):
    """How an image is shown to the model. The default is the official ADE20K test.

    Attributes:
        windows: whole image at once, or slide a window over it
        scale: (long, short) side the image is fitted into, keeping its shape; null keeps its size
        size_divisor: both sides are then stretched up to a multiple of this; 1: not
        crop: (height, width) of the sliding window in pixels
        stride: (height, width) of the window's steps in pixels
        window_batch: inputs of equal size (windows, flips, images) that run through the model together
        tta: test-time augmentation, the paper's "ms": average over ratios and flips (12 passes)
        ratios: sizes that tta averages over
        flip: whether tta averages over mirrored images as well
        bases: per_image (NMF bases drawn by the image's name) or fixed (the same for all, as an exported file has them)
    """

    windows: Windows = Windows.whole
    scale: tuple[int, int] | None = (2048, 512)
    size_divisor: int = 32
    crop: tuple[int, int] = (1024, 1024)
    stride: tuple[int, int] = (768, 768)
    window_batch: int = 4
    tta: bool = False
    ratios: tuple[float, ...] = MULTI_SCALE_RATIOS
    flip: bool = True
    bases: Bases = Bases.per_image

    def __post_init__(self) -> None:
        super().__post_init__()
        prefix = "dataset.test."
        if self.windows not in list(Windows):
            raise ConfigError(f"{prefix}windows={self.windows}: choose whole or slide")
        for key in ("scale", "crop", "stride"):
            pair = getattr(self, key)
            if pair is not None:
                require(len(pair) == 2 and min(pair) > 0, f"{prefix}{key}", list(pair), "two positive numbers")
        require(self.size_divisor >= 1, f"{prefix}size_divisor", self.size_divisor, "at least 1, which changes no size")
        for crop, stride in zip(self.crop, self.stride, strict=True):
            wanted = f"at least {SMALLEST_INPUT} pixels a side"
            require(crop >= SMALLEST_INPUT, f"{prefix}crop", list(self.crop), wanted)
            wanted = f"steps from 1 pixel to the size of the window, {list(self.crop)}"
            require(stride <= crop, f"{prefix}stride", list(self.stride), wanted)
        require(self.window_batch >= 1, f"{prefix}window_batch", self.window_batch, "at least 1 input at a time")
        if self.tta:
            fits = bool(self.ratios) and min(self.ratios) > 0
            require(fits, f"{prefix}ratios", list(self.ratios), "one positive number or more")

    @property
    def passes(self) -> tuple[tuple[float, bool], ...]:
        """(ratio, flipped) of every pass: scale-major, unflipped first."""
        if not self.tta:
            return ((1.0, False),)
        flips = (False, True) if self.flip else (False,)
        return tuple((ratio, flip) for ratio in self.ratios for flip in flips)


@dataclass
class AugmentationSettings(Settings):
    """How training images are scaled, cropped, mirrored and coloured; the defaults are the official recipe's.

    Attributes:
        crop: (height, width) of the training crops in pixels
        scale: (long side, short side) that an image fits at ratio 1, in pixels; its shape is kept
        ratio_range: the ratio drawn between these two multiplies scale
        cat_max_ratio: up to ten crops are drawn until no class fills this share of the labelled pixels; 1: no check
        flip_probability: of a horizontal flip
        photometric: whether brightness, contrast, saturation and hue are shifted
    """

    crop: tuple[int, int] = (512, 512)
    scale: tuple[int, int] = (2048, 512)
    ratio_range: tuple[float, float] = (0.5, 2.0)
    cat_max_ratio: float = 0.75
    flip_probability: float = 0.5
    photometric: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("crop", "scale", "ratio_range"):
            pair = getattr(self, key)
            require(len(pair) == 2 and min(pair) > 0, f"dataset.{key}", list(pair), "two positive numbers")
        low, high = self.ratio_range
        require(low <= high, "dataset.ratio_range", list(self.ratio_range), "two positive numbers, the smaller first")
        for key in ("cat_max_ratio", "flip_probability"):
            share = getattr(self, key)
            require(0 <= share <= 1, f"dataset.{key}", share, "a number from 0 to 1")


class Exif(str, Enum):
    """What an image's EXIF orientation means for its label."""

    auto = "auto"
    """Decided by the label's own orientation and by size; refused where that leaves it open."""
    image = "image"
    """The label was drawn on the picture as viewers show it: only the image is turned."""
    both = "both"
    """The label was drawn on the pixels as stored: image and label are turned."""


@dataclass
class ReadingSettings(Settings):
    """How the files of a dataset are read.

    Attributes:
        label_map: stored label values and what each is taken for, such as {255: 1}; others stay
        exif: labels of photos with an EXIF orientation: auto, image (drawn on the turned image), both (turn both)
        image_range: (low, high), the values of images with more than 8 bits that become black and white
        max_megapixels: larger images and labels are refused
    """

    label_map: Any = None
    exif: Exif = Exif.auto
    image_range: tuple[float, float] | None = None
    max_megapixels: float = 1000.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.label_map = self.label_map or {}
        fits = isinstance(self.label_map, dict) and all(type(x) is int for pair in self.label_map.items() for x in pair)
        wanted = "stored values and what they are taken for, as {255: 1}"
        require(fits, "dataset.label_map", self.label_map, wanted)
        for stored, meant in self.label_map.items():
            if not 0 <= meant <= 255:
                raise ConfigError(f"dataset.label_map={{{stored}: {meant}}}: labels are 0 to 254, and 255 for 'ignore'")
        if self.image_range is not None:
            pair = list(self.image_range)
            fits = len(pair) == 2 and all(type(bound) in (int, float) for bound in pair) and pair[0] < pair[1]
            require(fits, "dataset.image_range", pair, "two numbers, the smaller first, as [0,4095]")
            self.image_range = (pair[0], pair[1])
        if self.max_megapixels <= 0:
            raise ConfigError(f"dataset.max_megapixels={self.max_megapixels} must be above 0")


@dataclass
class SplitFiles(Settings):
    """Text files that list the stems of each split, relative to the root (dataset=folder).

    Attributes:
        train: images to train on
        val: images to validate on
        test: images to test on
    """

    train: str | None = None
    val: str | None = None
    test: str | None = None


# Settings that only one kind of dataset has a use for.
_OWNERS = {
    "folder": ("classes", "reduce_zero_label", "validation_fraction", "split_seed", "split_files"),
    "shapes": ("image_size", "train_images", "val_images"),
}


@dataclass
class DatasetSettings(AugmentationSettings, ReadingSettings):
    """A dataset, and what of the recipe depends on it.

    Attributes:
        name: ade, cityscapes, camvid, folder or shapes
        root: folder with the images; by default what SEGNEXT_ADE and so on or ~/.config/segnext.yaml say
        classes: yaml file with the names of the classes (dataset=folder)
        reduce_zero_label: label files store 0 for "other" and k + 1 for class k (dataset=folder)
        validation_fraction: share of the images held out where there is no split (dataset=folder)
        split_seed: which images are held out (dataset=folder)
        split_files: text files that list the images of each split (dataset=folder)
        image_size: (height, width) of the drawn images (dataset=shapes)
        train_images: how many images are drawn to train on (dataset=shapes)
        val_images: how many images are drawn to validate on (dataset=shapes)
        batch_size: the recipe's total batch, what schedule.batch_size is by default
        pretrained: what model.pretrained is by default
        test: how a test shows images to the model
        flops_size: (height, width) at which multiply-accumulates are counted
    """

    name: str = MISSING
    root: str | None = None
    classes: str | None = None
    reduce_zero_label: bool = False
    validation_fraction: float = 0.2
    split_seed: int = 0
    split_files: SplitFiles = field(default_factory=SplitFiles)
    image_size: tuple[int, int] = (96, 96)
    train_images: int = 200
    val_images: int = 200
    batch_size: int = 16
    pretrained: str | None = "auto"
    test: InferenceSettings = field(default_factory=InferenceSettings)
    flops_size: tuple[int, int] = (512, 512)

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("flops_size", "image_size"):
            pair = getattr(self, key)
            require(len(pair) == 2 and min(pair) > 0, f"dataset.{key}", list(pair), "two positive numbers")
        share = self.validation_fraction
        require(0 < share < 1, "dataset.validation_fraction", share, "a number between 0 and 1, say 0.2")
        for owner, keys in _OWNERS.items():
            for key in keys:
                if self.name not in (owner, MISSING) and getattr(self, key) != _DEFAULTS[key]:
                    raise ConfigError(f"dataset.{key} is of dataset={owner}: dataset={self.name} makes no use of it")


_DEFAULTS = {key: getattr(DatasetSettings(), key) for keys in _OWNERS.values() for key in keys}


ROOTS = {"ade": "data/ADEChallengeData2016", "camvid": "data/camvid", "cityscapes": "data/cityscapes"}
"""Where the published datasets are looked for when nothing is said."""


def data_root(name: str) -> str:
    """The folder of a dataset: ``SEGNEXT_ADE`` and so on, else ``data: {ade: …}`` in the user's
    ``segnext.yaml`` (in ``XDG_CONFIG_HOME`` or ``~/.config``), else ``ROOTS``.

    Raises:
        ConfigError: the user's file is no such yaml.
    """
    return os.environ.get(_variable(name)) or _user_roots().get(name) or ROOTS[name]


def root_advice(name: str) -> str:
    """What tells all commands where a dataset lies, for a message."""
    return f"{_variable(name)}=FOLDER or `data: {{{name}: FOLDER}}` in {_user_file()} says so for good"


def _variable(name: str) -> str:
    return f"SEGNEXT_{name.upper()}"


def _user_file() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")) / "segnext.yaml"


def _user_roots() -> dict[str, str]:
    path = _user_file()
    try:
        content = read_yaml(path) or {"data": {}}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    data = content.get("data") if isinstance(content, dict) else None
    if not isinstance(data, dict) or set(content) != {"data"} or not set(data) <= set(ROOTS):
        raise ConfigError(f"{path}: write `data:` with a folder each for any of {', '.join(ROOTS)}, and nothing else")
    roots = {name: os.path.expanduser(str(root)) for name, root in data.items()}
    for name, root in roots.items():
        if not os.path.isabs(root):  # from where would it count?
            raise ConfigError(f"{path}: data.{name}={root} must begin with / or ~")
    return roots
