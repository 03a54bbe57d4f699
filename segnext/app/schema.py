"""What each runner can be told: the groups it uses and settings of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

from omegaconf import MISSING

from segnext.app.groups import (
    CountFormat,
    DatasetConfig,
    Device,
    EvaluationConfig,
    Mode,
    ModelConfig,
    PaperFigures,
    Rival,
    ScheduleConfig,
    Spelling,
    SweepConfig,
    TestMode,
    TrackingConfig,
)
from segnext.app.ranges import require
from segnext.errors import ConfigError
from segnext.models.precision import Precision
from segnext.models.variants import get_variant

__all__ = [
    "BenchmarkConfig",
    "CommonConfig",
    "ConvertConfig",
    "DoctorConfig",
    "EvaluateConfig",
    "ExpectedModel",
    "InspectedDataset",
    "PredictConfig",
    "PrepareConfig",
    "ProfileConfig",
    "ReportConfig",
    "TrainConfig",
]

# ruff: noqa: UP045 - OmegaConf reads these annotations at run time and knows Optional, not "| None"


@dataclass
class CommonConfig:
    """What every runner that works with a model and a dataset knows."""

    model: ModelConfig = field(default_factory=ModelConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    seed: int = 0
    device: Device = Device.auto
    precision: Precision = Precision.fp32  # of convolutions: fp32, tf32, bf16 or fp16
    workers: int = 2  # processes that load images; 0: none
    output_dir: str = "outputs"
    run_folder: Optional[str] = None  # null: a new one below output_dir

    def check(self) -> None:
        require(self.seed >= 0, "seed", self.seed, "at least 0")
        require(self.workers >= 0, "workers", self.workers, "at least 0")


@dataclass
class SharedConfig(CommonConfig):
    """What runners know whose work several ranks can share."""

    ranks: Optional[int] = None  # processes on this machine, each with a GPU; null: those that mpirun has started, or 1
    rank_timeout: float = 1800.0  # seconds without progress after which several ranks fail; 0: wait forever

    def check(self) -> None:
        super().check()
        if self.ranks is not None:
            require(self.ranks >= 1, "ranks", self.ranks, "at least 1")
        require(self.rank_timeout >= 0, "rank_timeout", self.rank_timeout, "at least 0")


@dataclass
class TrainConfig(SharedConfig):
    name: str = MISSING
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    checkpoint: Optional[str] = None  # weights of a whole model to start from
    resume: Optional[str] = None  # auto (the latest unfinished run of this name) or a run folder
    experiment: Any = None

    def check(self) -> None:
        super().check()
        total, micro = self.schedule.batch_size, self.schedule.micro_batch
        share, rest = divmod(total, self.ranks or 1)
        if rest or not share:
            raise ConfigError(
                f"schedule.batch_size={total} is the total over all ranks and can't be shared by {self.ranks}: "
                f"choose a multiple of {self.ranks}"
            )
        if micro and share % micro:
            raise ConfigError(
                f"schedule.micro_batch={micro} must divide the {share} images that each of {self.ranks} ranks gets of "
                f"schedule.batch_size={total}"
            )


TORCH_SETTINGS = ("eager", "channels_last", "tf32", "bf16", "compile")
BENCHMARKS = ("train", "inference", "data", "start", "cold_start")


@dataclass
class BenchmarkConfig(SharedConfig):
    """`python -m runners.benchmark`."""

    name: str = MISSING
    what: Any = field(default_factory=lambda: ["train", "inference"])  # one of BENCHMARKS, or a list of them
    batch: Optional[int] = None  # images at a time; null: dataset.batch_size on a GPU, 2 on a CPU
    crop: Optional[list[int]] = None  # height and width of the input; null: dataset.crop
    num_classes: Optional[int] = None  # null: the dataset's
    warmup: int = 3  # rounds that do not count
    repeats: int = 20  # rounds that do
    against: Optional[Rival] = None  # torch: the same network in PyTorch, in turns with ours
    torch_settings: list[str] = field(default_factory=list)  # how PyTorch runs; empty: what suits the device

    def check(self) -> None:
        super().check()
        if isinstance(self.what, str):
            self.what = [what.strip() for what in self.what.split(",")]
        self.what = list(self.what)
        for what in self.what:
            require(what in BENCHMARKS, "what", what, f"one of {', '.join(BENCHMARKS)}, or what=[train,inference]")
        if (self.ranks or 1) > 1:
            if self.against is not None:
                raise ConfigError(f"against={self.against.value} compares one process with one: leave ranks out")
            for what in self.what:
                require(what in ("train", "inference"), "what", what, "train or inference: ranks share no other work")
        for setting in self.torch_settings:
            require(setting in TORCH_SETTINGS, "torch_settings", setting, f"some of {', '.join(TORCH_SETTINGS)}")
        for key in ("warmup", "repeats"):
            require(getattr(self, key) >= 1, key, getattr(self, key), "at least 1")
        for key in ("batch", "num_classes"):
            value = getattr(self, key)
            require(value is None or value >= 1, key, value, "at least 1")
        if self.crop is not None:
            fits = len(self.crop) == 2 and min(self.crop) >= 32
            require(fits, "crop", self.crop, "height and width of at least 32 pixels, as crop=[512,512]")
            self.dataset.crop = self.crop


@dataclass
class PrepareConfig:
    """`python -m runners.prepare`."""

    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    workers: int = 4  # threads that convert labels
    overwrite: bool = False  # convert again what is there already

    def check(self) -> None:
        require(self.workers >= 1, "workers", self.workers, "at least 1")


@dataclass
class InspectedDataset(DatasetConfig):
    """The dataset group, which may be left out."""

    name: str = "none"
    crop: list[int] = field(default_factory=lambda: [512, 512])
    scale: list[int] = field(default_factory=lambda: [2048, 512])

    def check(self) -> None:
        super().check()
        if self.name == "none" and self.root is not None:
            raise ConfigError(f"dataset.root={self.root} lacks its dataset: add dataset=folder, ade, …")


@dataclass
class DoctorConfig:
    """`python -m runners.doctor`."""

    dataset: InspectedDataset = field(default_factory=InspectedDataset)
    device: Device = Device.auto
    output_dir: str = "outputs"
    trial: bool = True  # let Jittor compile and run something
    max_images: Optional[int] = None  # look at so many of each split, spread evenly; null: at all
    workers: int = 4  # threads that read images

    warm: bool = False  # compile ahead what warm_model needs, instead of looking around
    warm_model: str = "tiny"
    warm_crop: list[int] = field(default_factory=lambda: [512, 512])  # height, width

    def check(self) -> None:
        get_variant(self.warm_model)
        require(
            len(self.warm_crop) == 2 and min(self.warm_crop) >= 32, "warm_crop", self.warm_crop, "two of at least 32"
        )
        require(self.workers >= 1, "workers", self.workers, "at least 1")
        if self.max_images is not None:
            require(self.max_images >= 1, "max_images", self.max_images, "at least 1")


@dataclass
class ExpectedModel:
    """The model group, of which converting needs the name alone."""

    name: Optional[str] = None  # null: the file tells
    pretrained: Optional[str] = None
    paper: dict[str, PaperFigures] = field(default_factory=dict)

    def check(self) -> None:
        if self.name is not None:
            get_variant(self.name)


@dataclass
class ConvertConfig:
    """`python -m runners.convert`."""

    input: str = MISSING  # a weights file, a run folder, or zoo:NAME
    output: str = MISSING  # .safetensors, .pkl or .pth
    spelling: Spelling = Spelling.official
    model: ExpectedModel = field(default_factory=ExpectedModel)
    num_classes: Optional[int] = None  # insist on this number; null: the file tells


@dataclass
class ProfileConfig:
    """`python -m runners.profile`."""

    model: ModelConfig = field(default_factory=ModelConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    height: Optional[int] = None  # pixels; null: those of dataset.profile_size
    width: Optional[int] = None
    num_classes: Optional[int] = None  # null: the dataset's
    depth: int = 0  # levels of modules to list
    format: CountFormat = CountFormat.table

    def check(self) -> None:
        require(self.depth >= 0, "depth", self.depth, "a number of levels, 0 for none")
        for key in ("height", "width", "num_classes"):
            value = getattr(self, key)
            require(value is None or value >= 1, key, value, "at least 1")


@dataclass
class ReportConfig:
    """`python -m runners.report FOLDER` or `python -m runners.report compare A B`."""

    path: Optional[str] = None  # a sweep's folder, or any folder with runs below it
    output: Optional[str] = None  # where the page goes; null: PATH/report
    compare: list[str] = field(default_factory=list)  # two folders of evaluations
    draws: int = 5000  # bootstrap draws of a comparison
    dashboard: Optional[str] = None  # ENTITY/PROJECT of W&B: publish the dashboard there

    def check(self) -> None:
        require(self.draws >= 1, "draws", self.draws, "at least 1")


@dataclass
class EvaluateConfig(SharedConfig):
    name: str = MISSING
    checkpoint: str = MISSING  # a weights file, a run folder, or zoo:NAME
    mode: Mode = Mode.ss  # single scale, or multi-scale and flip
    split: str = "val"
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)


@dataclass
class PredictConfig(CommonConfig):
    name: str = "predict"
    input: str = MISSING  # an image, a folder of images, or a pattern like 'photos/*.jpg'
    checkpoint: str = MISSING  # a weights file, a run folder, or zoo:NAME
    mode: Mode = Mode.ss
    test_mode: Optional[TestMode] = None  # null: as the checkpoint was tested
    scale: Optional[list[int]] = None  # long and short side limits; null: as the checkpoint was tested
    alpha: float = 0.55  # strength of the colours of the overlay, 0 to 1

    def check(self) -> None:
        super().check()
        require(0 <= self.alpha <= 1, "alpha", self.alpha, "a number from 0 to 1")
        if self.scale is not None:
            fits = len(self.scale) == 2 and min(self.scale) > 0
            require(fits, "scale", self.scale, "two positive numbers")
