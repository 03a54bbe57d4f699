"""The groups of conf/: what one model, dataset, schedule, tracking or sweep can say."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Optional

from omegaconf import MISSING

from segnext.app.ranges import require
from segnext.data.reading import Exif, ReadingSettings
from segnext.models.variants import get_variant
from segnext.sweeps.settings import SweepSettings as SweepConfig

__all__ = [
    "CountFormat",
    "DatasetConfig",
    "Device",
    "EvaluationConfig",
    "Gradient",
    "HamConfig",
    "Head",
    "Mode",
    "ModelConfig",
    "PaperFigures",
    "Rival",
    "ScheduleConfig",
    "Spelling",
    "SplitFiles",
    "SweepConfig",
    "TestConfig",
    "TestMode",
    "TrackingConfig",
    "WandbMode",
]

# ruff: noqa: UP045 - OmegaConf reads these annotations at run time and knows Optional, not "| None"


class Device(Enum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Gradient(Enum):
    full = "full"
    one_step = "one_step"


class Head(Enum):
    keep = "keep"
    new = "new"


class TestMode(Enum):
    whole = "whole"
    slide = "slide"


class Mode(Enum):
    ss = "ss"
    ms = "ms"


class Spelling(Enum):
    official = "official"
    mmseg = "mmseg"


class CountFormat(Enum):
    table = "table"
    markdown = "markdown"
    json = "json"


class Rival(Enum):
    torch = "torch"


class WandbMode(Enum):
    auto = "auto"
    online = "online"
    offline = "offline"
    disabled = "disabled"


@dataclass
class PaperFigures:
    """Published results of one size on one dataset: mIoU in per cent, parameters and FLOPs (MACs) as printed."""

    mIoU_ss: float
    mIoU_ms: float
    params_M: float
    flops_G: float


@dataclass
class HamConfig:
    rank: Optional[int] = None  # NMF bases; null: the size's own
    gradient: Gradient = Gradient.full


@dataclass
class ModelConfig:
    name: str = MISSING
    drop_path: Optional[float] = None  # null: the size's own
    dropout: float = 0.1
    ham: HamConfig = field(default_factory=HamConfig)
    pretrained: Optional[str] = None  # backbone weights: auto (published), a path, or null (from scratch)
    recompute: bool = False  # less memory for up to a third more time: blocks are computed again for the gradients
    head: Head = Head.keep  # new: re-draw the classifier when a checkpoint has other classes
    paper: dict[str, PaperFigures] = field(default_factory=dict)

    def check(self) -> None:
        variant = get_variant(self.name)
        if self.drop_path is None:
            self.drop_path = variant.drop_path
        if self.ham.rank is None:
            self.ham.rank = variant.nmf_rank
        require(0 <= self.drop_path < 1, "model.drop_path", self.drop_path, "a rate from 0 to below 1")
        require(0 <= self.dropout < 1, "model.dropout", self.dropout, "a rate from 0 to below 1")
        require(self.ham.rank >= 1, "model.ham.rank", self.ham.rank, "at least 1")


@dataclass
class TestConfig:
    """How images are brought to the network at test time (official test pipelines)."""

    mode: TestMode = TestMode.whole
    scale: list[int] = field(default_factory=lambda: [2048, 512])  # long and short side limits, ratio kept
    size_divisor: int = 1  # sides are resized up to a multiple of this
    crop: list[int] = field(default_factory=lambda: [512, 512])  # window of slide mode, height and width
    stride: list[int] = field(default_factory=lambda: [341, 341])


@dataclass
class SplitFiles:
    """dataset=folder: text files that list the stems of each split."""

    train: Optional[str] = None
    val: Optional[str] = None
    test: Optional[str] = None


@dataclass
class DatasetConfig:
    name: str = MISSING
    root: Optional[str] = None  # folder with the images; shapes needs none
    classes: Optional[str] = None  # yaml with class names, for dataset=folder
    reduce_zero_label: bool = False
    validation_fraction: float = 0.2  # dataset=folder without a split of its own
    split_seed: int = 0
    split_files: SplitFiles = field(default_factory=SplitFiles)
    label_map: Any = None  # stored label values and what each is taken for, as {255: 1}
    exif: Exif = Exif.auto  # labels of photos with an EXIF orientation: drawn on the turned image, or turn both
    image_range: Optional[list[float]] = None  # values of images with more than 8 bits that become black and white
    max_megapixels: float = 1000.0  # larger images and labels are refused
    image_size: list[int] = field(default_factory=lambda: [96, 96])  # dataset=shapes, height and width
    train_images: int = 0
    val_images: int = 0
    crop: list[int] = MISSING  # height and width of training crops
    scale: list[int] = MISSING  # long and short side limits before the random ratio
    ratio_range: list[float] = field(default_factory=lambda: [0.5, 2.0])
    batch_size: int = 16  # the recipe's total batch
    pretrained: Optional[str] = "auto"  # what model.pretrained is by default
    test: TestConfig = field(default_factory=TestConfig)
    profile_size: list[int] = field(default_factory=lambda: [512, 512])  # height and width at which MACs are counted

    def check(self) -> None:
        self.reading()
        for key in ("crop", "scale", "ratio_range", "profile_size"):
            pair = getattr(self, key)
            require(len(pair) == 2 and min(pair) > 0, f"dataset.{key}", pair, "two positive numbers")
        for key in ("scale", "crop", "stride"):
            pair = getattr(self.test, key)
            require(len(pair) == 2 and min(pair) > 0, f"dataset.test.{key}", pair, "two positive numbers")

    def reading(self) -> ReadingSettings:
        """How files are read; raises ConfigError for a setting out of range."""
        label_map, pair = self.label_map or {}, self.image_range
        fits = isinstance(label_map, dict) and all(type(x) is int for entry in label_map.items() for x in entry)
        require(fits, "dataset.label_map", label_map, "stored values and what they are taken for, as {255: 1}")
        require(pair is None or len(pair) == 2, "dataset.image_range", pair, "two numbers, as [0,4095]")
        return ReadingSettings(label_map, self.exif, None if pair is None else (pair[0], pair[1]), self.max_megapixels)


@dataclass
class ScheduleConfig:
    name: str = MISSING
    iterations: int = MISSING
    batch_size: int = MISSING  # images per optimizer step over all devices
    micro_batch: Optional[int] = None  # images per pass; null: the whole batch at once
    lr: float = 6e-5
    head_lr_factor: float = 10.0
    weight_decay: float = 0.01
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    warmup_iterations: int = 1500
    warmup_ratio: float = 1e-6
    power: float = 1.0
    eval_interval: int = 8000
    checkpoint_interval: int = 8000
    log_interval: int = 50

    def check(self) -> None:
        for key in ("iterations", "batch_size", "eval_interval", "checkpoint_interval", "log_interval"):
            value = getattr(self, key)
            require(value >= 1, f"schedule.{key}", value, "at least 1")
        require(self.lr > 0, "schedule.lr", self.lr, "above 0")
        require(self.warmup_iterations >= 0, "schedule.warmup_iterations", self.warmup_iterations, "at least 0")
        if self.micro_batch is not None:
            fits = self.micro_batch >= 1 and self.batch_size % self.micro_batch == 0
            require(fits, "schedule.micro_batch", self.micro_batch, f"a divisor of the batch size {self.batch_size}")


@dataclass
class TrackingConfig:
    wandb: WandbMode = WandbMode.auto
    project: str = "segnext"
    entity: Optional[str] = None
    group: Optional[str] = None
    tags: list[str] = field(default_factory=list)
    notes: Optional[str] = None
    images: int = 4  # validation images tracked at each evaluation
    tensorboard: bool = False


@dataclass
class EvaluationConfig:
    draws: int = 1  # repeats with other NMF bases
    boundary: bool = False
    submission: bool = False
    max_images: Optional[int] = None  # the first N of the split
    window_batch: int = 4  # windows, flips or images of one size that run through the model together

    def check(self) -> None:
        require(self.draws >= 1, "evaluation.draws", self.draws, "at least 1")
        require(self.window_batch >= 1, "evaluation.window_batch", self.window_batch, "at least 1")
        if self.max_images is not None:
            require(self.max_images >= 1, "evaluation.max_images", self.max_images, "at least 1")
