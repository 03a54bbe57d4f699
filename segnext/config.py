"""The typed schema of everything in conf/, and the one place where a Hydra config becomes plain objects.

Hydra checks a composed config against the dataclasses registered here; ``resolve()`` checks again, because additions
such as ``+model.typo=1`` pass the first check, and then the ranges. The rest of the library never sees a DictConfig.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from typing import Any, Optional, TypeVar, get_type_hints

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from segnext.errors import ConfigError
from segnext.models.variants import get_variant
from segnext.sweeps.policy import OnFailure, parse_slots

__all__ = [
    "BenchmarkConfig",
    "ConvertConfig",
    "CountFormat",
    "DatasetConfig",
    "DoctorConfig",
    "EvaluateConfig",
    "EvaluationConfig",
    "ModelConfig",
    "PaperFigures",
    "PredictConfig",
    "PrepareConfig",
    "ProfileConfig",
    "ReportConfig",
    "ScheduleConfig",
    "SweepConfig",
    "TestMode",
    "TrackingConfig",
    "TrainConfig",
    "WandbMode",
    "register",
    "resolve",
    "to_dict",
    "to_yaml",
]

T = TypeVar("T")

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
    head: Head = Head.keep  # new: re-draw the classifier when a checkpoint has other classes
    paper: dict[str, PaperFigures] = field(default_factory=dict)

    def check(self) -> None:
        variant = get_variant(self.name)
        if self.drop_path is None:
            self.drop_path = variant.drop_path
        if self.ham.rank is None:
            self.ham.rank = variant.nmf_rank
        _require(0 <= self.drop_path < 1, "model.drop_path", self.drop_path, "a rate from 0 to below 1")
        _require(0 <= self.dropout < 1, "model.dropout", self.dropout, "a rate from 0 to below 1")
        _require(self.ham.rank >= 1, "model.ham.rank", self.ham.rank, "at least 1")


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
        for key in ("crop", "scale", "ratio_range", "profile_size"):
            pair = getattr(self, key)
            _require(len(pair) == 2 and min(pair) > 0, f"dataset.{key}", pair, "two positive numbers")
        for key in ("scale", "crop", "stride"):
            pair = getattr(self.test, key)
            _require(len(pair) == 2 and min(pair) > 0, f"dataset.test.{key}", pair, "two positive numbers")


@dataclass
class ScheduleConfig:
    name: str = MISSING
    iterations: int = MISSING
    batch_size: int = MISSING  # images per optimiser step over all devices
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
            _require(value >= 1, f"schedule.{key}", value, "at least 1")
        _require(self.lr > 0, "schedule.lr", self.lr, "above 0")
        _require(self.warmup_iterations >= 0, "schedule.warmup_iterations", self.warmup_iterations, "at least 0")
        if self.micro_batch is not None:
            fits = self.micro_batch >= 1 and self.batch_size % self.micro_batch == 0
            _require(fits, "schedule.micro_batch", self.micro_batch, f"a divisor of the batch size {self.batch_size}")


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
        _require(self.draws >= 1, "evaluation.draws", self.draws, "at least 1")
        _require(self.window_batch >= 1, "evaluation.window_batch", self.window_batch, "at least 1")
        if self.max_images is not None:
            _require(self.max_images >= 1, "evaluation.max_images", self.max_images, "at least 1")


@dataclass
class CommonConfig:
    """What every runner that works with a model and a dataset knows."""

    model: ModelConfig = field(default_factory=ModelConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    seed: int = 0
    device: Device = Device.auto
    workers: int = 2  # processes that load images; 0: none
    output_dir: str = "outputs"
    run_folder: Optional[str] = None  # null: a new one below output_dir

    def check(self) -> None:
        _require(self.seed >= 0, "seed", self.seed, "at least 0")
        _require(self.workers >= 0, "workers", self.workers, "at least 0")


@dataclass
class SweepConfig:
    """How the jobs of `-m` are run (segnext/sweeps)."""

    name: Optional[str] = None  # folder below <output_dir>/sweeps; null: follows from the command's choices
    slots: Any = "auto"  # jobs at a time; auto: one per GPU, one without a GPU
    on_failure: str = "continue"  # continue, stop or retry:N
    dry_run: bool = False  # list the jobs and run nothing
    grace: float = 2.5  # seconds that a stopped job has to save before it is killed
    prune: Optional[str] = None  # stop a job below this curve: a run folder, or best (the best finished job so far)
    prune_margin: float = 0.05  # by this much mIoU, a fraction

    def check(self) -> None:
        parse_slots(self.slots)
        OnFailure.parse(self.on_failure)
        _require(self.grace >= 0, "sweep.grace", self.grace, "at least 0")
        _require(0 <= self.prune_margin < 1, "sweep.prune_margin", self.prune_margin, "a fraction from 0 to below 1")
        if self.name is not None:
            plain = self.name not in (".", "..") and re.fullmatch(r"[\w.=+-]+", self.name)
            _require(bool(plain), "sweep.name", self.name, "letters, digits and . = + - _")


@dataclass
class TrainConfig(CommonConfig):
    name: str = MISSING
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    checkpoint: Optional[str] = None  # weights of a whole model to start from
    resume: Optional[str] = None  # auto (the latest unfinished run of this name) or a run folder
    experiment: Any = None


TORCH_SETTINGS = ("eager", "channels_last", "tf32", "bf16", "compile")
BENCHMARKS = ("train", "inference", "data", "start", "cold_start")


@dataclass
class BenchmarkConfig(CommonConfig):
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
        self.what = [self.what] if isinstance(self.what, str) else list(self.what)
        for what in self.what:
            _require(what in BENCHMARKS, "what", what, f"one of {', '.join(BENCHMARKS)}, or what=[train,inference]")
        for setting in self.torch_settings:
            _require(setting in TORCH_SETTINGS, "torch_settings", setting, f"some of {', '.join(TORCH_SETTINGS)}")
        for key in ("warmup", "repeats"):
            _require(getattr(self, key) >= 1, key, getattr(self, key), "at least 1")
        for key in ("batch", "num_classes"):
            value = getattr(self, key)
            _require(value is None or value >= 1, key, value, "at least 1")
        if self.crop is not None:
            fits = len(self.crop) == 2 and min(self.crop) >= 32
            _require(fits, "crop", self.crop, "height and width of at least 32 pixels, as crop=[512,512]")


@dataclass
class PrepareConfig:
    """`python -m runners.prepare`."""

    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    workers: int = 4  # threads that convert labels
    overwrite: bool = False  # convert again what is there already

    def check(self) -> None:
        _require(self.workers >= 1, "workers", self.workers, "at least 1")


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

    def check(self) -> None:
        _require(self.workers >= 1, "workers", self.workers, "at least 1")
        if self.max_images is not None:
            _require(self.max_images >= 1, "max_images", self.max_images, "at least 1")


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
        _require(self.depth >= 0, "depth", self.depth, "a number of levels, 0 for none")
        for key in ("height", "width", "num_classes"):
            value = getattr(self, key)
            _require(value is None or value >= 1, key, value, "at least 1")


@dataclass
class ReportConfig:
    """`python -m runners.report FOLDER` or `python -m runners.report compare A B`."""

    path: Optional[str] = None  # a sweep's folder, or any folder with runs below it
    output: Optional[str] = None  # where the page goes; null: PATH/report
    compare: list[str] = field(default_factory=list)  # two folders of evaluations
    draws: int = 5000  # bootstrap draws of a comparison
    dashboard: Optional[str] = None  # ENTITY/PROJECT of W&B: publish the dashboard there

    def check(self) -> None:
        _require(self.draws >= 1, "draws", self.draws, "at least 1")


@dataclass
class EvaluateConfig(CommonConfig):
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
        _require(0 <= self.alpha <= 1, "alpha", self.alpha, "a number from 0 to 1")
        if self.scale is not None:
            fits = len(self.scale) == 2 and min(self.scale) > 0
            _require(fits, "scale", self.scale, "two positive numbers")


def register() -> None:
    """Puts the schemas where the yaml files of conf/ refer to them, as ``<runner>_schema``."""
    store = ConfigStore.instance()
    store.store(name="train_schema", node=TrainConfig)
    store.store(name="benchmark_schema", node=BenchmarkConfig)
    store.store(name="prepare_schema", node=PrepareConfig)
    store.store(name="convert_schema", node=ConvertConfig)
    store.store(name="doctor_schema", node=DoctorConfig)
    store.store(name="profile_schema", node=ProfileConfig)
    store.store(name="report_schema", node=ReportConfig)
    store.store(name="evaluate_schema", node=EvaluateConfig)
    store.store(name="predict_schema", node=PredictConfig)


def resolve(config: DictConfig, schema: type[T]) -> T:
    """Turns a composed config into an object of ``schema`` with every interpolation resolved.

    Raises:
        ConfigError: unknown key (with the nearest known one), missing or ill-typed value, or value out of range.
    """
    try:
        merged = OmegaConf.merge(OmegaConf.structured(schema), OmegaConf.to_container(config, resolve=True))
        missing = sorted(OmegaConf.missing_keys(merged))
        if missing:
            raise ConfigError(f"{missing[0]} is not set: give {missing[0]}=… on the command line")
        result = OmegaConf.to_object(merged)
    except ConfigKeyError as error:
        raise ConfigError(unknown_key(str(error.full_key), schema)) from error
    except OmegaConfBaseException as error:
        raise ConfigError(f"{getattr(error, 'full_key', None) or 'configuration'}: {error.msg or error}") from error
    assert isinstance(result, schema)
    _check(result)
    return result


def _check(node: Any) -> None:
    """Calls ``check`` of every dataclass inside ``node``, then its own."""
    for item in fields(node):
        if is_dataclass(value := getattr(node, item.name)):
            _check(value)
    if hasattr(node, "check"):
        node.check()


def to_dict(config: Any) -> dict[str, Any]:
    """The resolved settings as plain dictionaries, lists, numbers and strings."""
    plain = OmegaConf.to_container(OmegaConf.structured(config), enum_to_str=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def to_yaml(config: Any) -> str:
    """The resolved settings as YAML, for ``config.yaml`` of a run folder."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def unknown_key(full_key: str, schema: type[Any]) -> str:
    """The message for a key that ``schema`` does not have, with the nearest ones that it has."""
    known = key_names(schema)
    nearest = difflib.get_close_matches(full_key, known, n=1, cutoff=0.6)
    leaf = full_key.rsplit(".", 1)[-1]
    nearest = nearest or [key for key in known if key.rsplit(".", 1)[-1] == leaf]
    hint = f"did you mean {nearest[0]}?" if nearest else "`--cfg job` prints all settings"
    return f"unknown setting {full_key}: {hint}"


def key_names(schema: type[Any], prefix: str = "") -> list[str]:
    """All dotted keys of a dataclass and of the dataclasses inside it."""
    names = []
    hints = get_type_hints(schema)
    for item in fields(schema):
        names.append(prefix + item.name)
        if is_dataclass(hints[item.name]):
            names += key_names(hints[item.name], f"{prefix}{item.name}.")
    return names


def _require(condition: bool, key: str, value: object, wanted: str) -> None:
    if not condition:
        raise ConfigError(f"{key}={value} is out of range: give {wanted}")
