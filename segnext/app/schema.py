"""What each verb can be told: the settings of the rooms it uses, and a few of its own.

``UNREAD`` of a verb lists the settings of a room that have no effect on it: naming one on the command line is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar

from segnext.app.keys import all_but
from segnext.app.tool_schema import (
    OF_TRAINING,
    ConvertConfig,
    CountFormat,
    DoctorConfig,
    PrepareConfig,
    ProfileConfig,
    ReportConfig,
)
from segnext.data.settings import DatasetSettings
from segnext.errors import ConfigError
from segnext.evaluation.evaluator import EvaluationSettings
from segnext.evaluation.onnx_model import Engine
from segnext.export.settings import ExportSettings, InputKind, OutputKind, Quantisation
from segnext.models.settings import ModelSettings, Precision
from segnext.settings import MISSING, Device, require
from segnext.sweeps.settings import SweepSettings
from segnext.tracking.settings import TrackingSettings
from segnext.training.schedule import ScheduleSettings
from segnext.weights.trained import StartSettings

__all__ = [
    "VERBS",
    "BenchmarkConfig",
    "CommonConfig",
    "ConvertConfig",
    "CountFormat",
    "Device",
    "DoctorConfig",
    "EvaluateConfig",
    "ExportConfig",
    "PredictConfig",
    "PrepareConfig",
    "ProfileConfig",
    "ReportConfig",
    "SharedConfig",
    "TrainConfig",
]

_OF_TRAINED_MODELS = all_but("model", ModelSettings, "name", "ham.rank")


class Rival(str, Enum):
    torch = "torch"


@dataclass
class CommonConfig:
    """What every verb knows that works with a model and a dataset.

    Attributes:
        model: the network
        dataset: the images
        seed: of everything random
        device: auto, cpu or cuda
        precision: of convolutions: fp32, tf32, bf16 or fp16
        workers: processes that load images; 0: none
        output_dir: folder for run folders
        run_folder: the run's own folder; null: a new one below output_dir
    """

    UNREAD: ClassVar[tuple[str, ...]] = ()

    model: ModelSettings = field(default_factory=ModelSettings)
    dataset: DatasetSettings = field(default_factory=DatasetSettings)
    seed: int = 0
    device: Device = Device.auto
    precision: Precision = Precision.fp32
    workers: int = 2
    output_dir: str = "outputs"
    run_folder: str | None = None

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """Raises ConfigError for a value out of range."""
        require(0 <= self.seed < 2**31, "seed", self.seed, "a number from 0 to below 2147483648")
        require(self.workers >= 0, "workers", self.workers, "at least 0")


@dataclass
class SharedConfig(CommonConfig):
    """What verbs know whose work several ranks can share.

    Attributes:
        ranks: processes on this machine, each with a GPU; null: those that mpirun has started, or 1
        rank_timeout: seconds without progress after which several ranks fail; 0: wait forever
    """

    ranks: int | None = None
    rank_timeout: float = 1800.0

    def check(self) -> None:
        super().check()
        if self.ranks is not None:
            require(self.ranks >= 1, "ranks", self.ranks, "at least 1")
        require(self.rank_timeout >= 0, "rank_timeout", self.rank_timeout, "at least 0")


@dataclass
class TrainConfig(SharedConfig):
    """`train`.

    Attributes:
        name: folder of the runs below output_dir
        schedule: the training from its first iteration to its last
        tracking: who is told of the run
        evaluation: the evaluations on the way
        sweep: how the jobs of `-m` are run
        checkpoint: weights of a whole model to start from: a weights file, a run folder, or zoo:NAME
        resume: auto (the latest unfinished run of this name) or a run folder
        memory: for a step, auto (what is free) or like 8GiB: chooses micro_batch and gradient_checkpointing
    """

    UNREAD = (*all_but("evaluation", EvaluationSettings, "max_images", "extremes"), "dataset.split_files.test")

    name: str = MISSING
    model: StartSettings = field(default_factory=StartSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    tracking: TrackingSettings = field(default_factory=TrackingSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    sweep: SweepSettings = field(default_factory=SweepSettings)
    checkpoint: str | None = None
    resume: str | None = None
    memory: str | None = None

    def check(self) -> None:
        super().check()
        if self.memory is not None:
            fits = self.memory == "auto" or re.fullmatch(r"[0-9]+(\.[0-9]+)? ?GiB", self.memory) is not None
            require(fits, "memory", self.memory, "auto or a size like 8GiB")
            if self.schedule.micro_batch is not None or self.model.gradient_checkpointing:
                raise ConfigError("memory chooses schedule.micro_batch, model.gradient_checkpointing: leave them out")
        total, micro = self.schedule.batch_size, self.schedule.micro_batch
        if total == MISSING:
            return
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


def _check_engine(engine: Engine, config: CommonConfig) -> None:
    """Refuses what an exported file can't follow."""
    if engine != Engine.jittor and config.precision != Precision.fp32:
        raise ConfigError(f"precision={config.precision.value}: engine={engine.value} computes in fp32, leave it out")


@dataclass
class EvaluateConfig(SharedConfig):
    """`evaluate`.

    Attributes:
        name: folder of the evaluations below output_dir
        checkpoint: a weights file, a run folder, zoo:NAME, or an exported file; model, dataset and test follow from it
        engine: jittor, or onnxruntime or openvino, which run an exported file
        split: train, val or test
        evaluation: what is evaluated and what comes of it
    """

    UNREAD = (*OF_TRAINING, *_OF_TRAINED_MODELS)

    name: str = MISSING
    checkpoint: str = MISSING
    engine: Engine = Engine.jittor
    split: str = "val"
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)

    def check(self) -> None:
        super().check()
        _check_engine(self.engine, self)
        if self.engine != Engine.jittor:
            if (self.ranks or 1) > 1:
                raise ConfigError(f"engine={self.engine.value} runs in one process: leave ranks out")
            if self.evaluation.repeats > 1:
                raise ConfigError("evaluation.repeats: the bases of an exported file are fixed, leave it out")


@dataclass
class PredictConfig(CommonConfig):
    """`predict`.

    Attributes:
        name: folder of the predictions below output_dir
        input: an image, a folder of images, a pattern like 'photos/*.jpg', a film, camera:0, or a stream (rtsp://…)
        checkpoint: a weights file, a run folder, zoo:NAME, or an exported file; model, classes and test follow from it
        engine: jittor, or onnxruntime or openvino, which run an exported file
        alpha: strength of the colours of the overlay, 0 to 1
        label_files: of a video, write the label PNG of every frame as well
        max_frames: of a video, end after so many
    """

    UNREAD = (
        *all_but("dataset", DatasetSettings, "name", "root", "classes", "test", "image_range", "max_megapixels"),
        *_OF_TRAINED_MODELS,
        "workers",
    )

    name: str = "predict"
    input: str = MISSING
    checkpoint: str = MISSING
    engine: Engine = Engine.jittor
    alpha: float = 0.55
    label_files: bool = False
    max_frames: int | None = None

    def check(self) -> None:
        super().check()
        _check_engine(self.engine, self)
        require(self.max_frames is None or self.max_frames >= 1, "max_frames", self.max_frames, "at least 1")
        require(0 <= self.alpha <= 1, "alpha", self.alpha, "a number from 0 to 1")


TORCH_SETTINGS = ("eager", "channels_last", "tf32", "bf16", "compile", "compile_fp32")
BENCHMARKS = ("train", "inference", "logits", "evaluate", "data", "start", "cold_start")


@dataclass
class BenchmarkConfig(SharedConfig):
    """`benchmark`.

    Attributes:
        name: folder of the measurements below output_dir
        what: train, inference (labels), logits, evaluate, data, start, cold_start, or a list: what=[train,inference]
        batch: images at a time; null: dataset.batch_size on a GPU, 2 on a CPU
        num_classes: null: the dataset's
        warmup: rounds that do not count
        repeats: rounds that do
        against: torch: the same network in PyTorch, in turns with ours
        engines: exported models beside ours in inference, evaluate: onnxruntime, openvino, or [onnxruntime,openvino]
        torch_settings: PyTorch as eager, channels_last, tf32, bf16, compile (of bf16), compile_fp32; empty: what
            suits the device
    """

    UNREAD = (
        "dataset.pretrained",
        "dataset.flops_size",
        "dataset.split_files.test",
    )

    name: str = MISSING
    what: Any = field(default_factory=lambda: ["train", "inference"])
    batch: int | None = None
    num_classes: int | None = None
    warmup: int = 3
    repeats: int = 20
    against: Rival | None = None
    engines: list[str] = field(default_factory=list)
    torch_settings: list[str] = field(default_factory=list)

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
        for engine in self.engines:
            require(engine in ("onnxruntime", "openvino"), "engines", engine, "onnxruntime, openvino or both")
        if self.engines and (self.ranks or 1) > 1:
            raise ConfigError("engines= compares one process with one: leave ranks out")
        for setting in self.torch_settings:
            require(setting in TORCH_SETTINGS, "torch_settings", setting, f"some of {', '.join(TORCH_SETTINGS)}")
        for key in ("warmup", "repeats"):
            require(getattr(self, key) >= 1, key, getattr(self, key), "at least 1")
        for key in ("batch", "num_classes"):
            value = getattr(self, key)
            require(value is None or value >= 1, key, value, "at least 1")
        crop = self.dataset.crop
        require(min(crop) >= 32, "dataset.crop", list(crop), "height and width of at least 32 pixels, as [512,512]")


@dataclass
class ExportConfig(ExportSettings):
    """`export`.

    Attributes:
        checkpoint: a weights file, a run folder, or zoo:NAME; model, classes and test settings follow from it
        model: the network
        dataset: the images to calibrate for and to score quantised files with
        device: auto, cpu or cuda: where Jittor computes what the file is compared with
        image: an image to compare on; null: a drawn one
        quantise: none, or int8: convolutions in eight bits
        calibration: folder of images, or a pattern, that show the ranges of values (quantise=int8)
        calibration_images: so many of them, spread evenly
        workers: processes that load images; 0: none
    """

    UNREAD: ClassVar[tuple[str, ...]] = (
        *OF_TRAINING,
        *_OF_TRAINED_MODELS,
        *("dataset.train_images", "dataset.split_files.train", "dataset.split_files.test"),
        "dataset.test.tta",
        "dataset.test.ratios",
        "dataset.test.flip",
        "dataset.test.bases",
    )

    checkpoint: str = MISSING
    model: ModelSettings = field(default_factory=ModelSettings)
    dataset: DatasetSettings = field(default_factory=DatasetSettings)
    device: Device = Device.auto
    image: str | None = None
    quantise: Quantisation = Quantisation.none
    calibration: str | None = None
    calibration_images: int = 64
    workers: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.calibration_images >= 1, "calibration_images", self.calibration_images, "at least 1")
        require(self.workers >= 0, "workers", self.workers, "at least 0")
        if (self.quantise == Quantisation.int8) != (self.calibration is not None):
            raise ConfigError("quantise=int8 and calibration=FOLDER belong together: give both or neither")
        if self.quantise == Quantisation.int8 and (
            self.input.kind != InputKind.tensor or self.output.kind != OutputKind.logits
        ):
            raise ConfigError("quantise=int8 takes input.kind=tensor output.kind=logits: leave other kinds out")


VERBS: dict[str, type[Any]] = {
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "predict": PredictConfig,
    "profile": ProfileConfig,
    "benchmark": BenchmarkConfig,
    "report": ReportConfig,
    "doctor": DoctorConfig,
    "prepare": PrepareConfig,
    "convert": ConvertConfig,
    "export": ExportConfig,
}
