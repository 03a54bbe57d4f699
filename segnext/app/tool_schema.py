"""What the verbs without a training or an evaluation can be told; ``UNREAD`` lists what has no effect on them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar

from segnext.app.keys import all_but, leaf_keys
from segnext.data.settings import AugmentationSettings, DatasetSettings, InferenceSettings
from segnext.errors import ConfigError
from segnext.models.settings import ModelSettings
from segnext.models.variants import get_variant
from segnext.settings import MISSING, Device, require
from segnext.weights.key_format import KeyFormat

__all__ = [
    "OF_TESTS",
    "OF_TRAINING",
    "ConvertConfig",
    "CountFormat",
    "DoctorConfig",
    "PrepareConfig",
    "ProfileConfig",
    "ReportConfig",
]

_OF_TRAINING_ALONE = ("dataset.batch_size", "dataset.pretrained", "dataset.flops_size")
OF_TRAINING = (*leaf_keys(AugmentationSettings, "dataset."), *_OF_TRAINING_ALONE)
OF_TESTS = tuple(leaf_keys(InferenceSettings, "dataset.test."))


class CountFormat(str, Enum):
    table = "table"
    markdown = "markdown"
    json = "json"


@dataclass
class PrepareConfig:
    """`prepare`.

    Attributes:
        dataset: cityscapes or ade, and where it lies
        workers: threads that convert labels
        overwrite: convert again what is there already
    """

    UNREAD: ClassVar[tuple[str, ...]] = all_but("dataset", DatasetSettings, "name", "root")

    dataset: DatasetSettings = field(default_factory=DatasetSettings)
    workers: int = 4
    overwrite: bool = False

    def __post_init__(self) -> None:
        require(self.workers >= 1, "workers", self.workers, "at least 1")


@dataclass
class InspectedDataset(DatasetSettings):
    """The dataset to look at, which may be left out."""

    name: str = "none"

    def __post_init__(self) -> None:
        if self.name == "none" and self.root is not None:
            raise ConfigError(f"dataset.root={self.root} lacks its dataset: add dataset=folder, ade, …")
        super().__post_init__()


@dataclass
class DoctorConfig:
    """`doctor`.

    Attributes:
        dataset: the dataset to look at; none by default
        device: auto, cpu or cuda
        output_dir: folder of future runs
        trial: let Jittor compile and run something
        max_images: look at so many of each split, spread evenly; null: at all
        workers: threads that read images
        browse: leave a page to look at: classes, sizes, random and suspicious pairs, augmented images
        warm: compile ahead instead of looking around, for images and clusters
        warm_model: size of the network that is compiled for
        warm_crop: (height, width) in pixels of the images that are compiled for
    """

    UNREAD: ClassVar[tuple[str, ...]] = (*_OF_TRAINING_ALONE, *OF_TESTS)

    dataset: InspectedDataset = field(default_factory=InspectedDataset)
    device: Device = Device.auto
    output_dir: str = "outputs"
    trial: bool = True
    max_images: int | None = None
    workers: int = 4
    browse: bool = False

    warm: bool = False
    warm_model: str = "tiny"
    warm_crop: list[int] = field(default_factory=lambda: [512, 512])

    def __post_init__(self) -> None:
        get_variant(self.warm_model)
        require(
            len(self.warm_crop) == 2 and min(self.warm_crop) >= 32, "warm_crop", self.warm_crop, "two of at least 32"
        )
        require(self.workers >= 1, "workers", self.workers, "at least 1")
        if self.browse and self.dataset.name == "none":
            raise ConfigError("browse=true lacks its dataset: add dataset=folder, ade, …")
        if self.max_images is not None:
            require(self.max_images >= 1, "max_images", self.max_images, "at least 1")


@dataclass
class ExpectedModel:
    """The network that a file must hold.

    Attributes:
        name: tiny, small, base or large; null: the file tells
    """

    name: str | None = None

    def __post_init__(self) -> None:
        if self.name is not None:
            get_variant(self.name)


@dataclass
class ConvertConfig:
    """`convert`.

    Attributes:
        input: a weights file, a run folder, or zoo:NAME
        output: .safetensors (ours), .pkl (jittor.load, JSeg) or .pth (torch.load, mmcv); the suffix decides
        key_format: names of the tensors: official, or mmseg as mmsegmentation has them (.pth, .pkl)
        model: insist on this size
        num_classes: insist on this number; null: the file tells
    """

    UNREAD: ClassVar[tuple[str, ...]] = ()

    input: str = MISSING
    output: str = MISSING
    key_format: KeyFormat = KeyFormat.official
    model: ExpectedModel = field(default_factory=ExpectedModel)
    num_classes: int | None = None


@dataclass
class ProfileConfig:
    """`profile`.

    Attributes:
        model: the network to count
        dataset: tells the number of classes and the size of the image
        height: pixels; null: that of dataset.flops_size
        width: pixels; null: that of dataset.flops_size
        num_classes: null: the dataset's
        depth: levels of modules to list
        memory: whether to list the peak memory of a training step on a GPU, by its division into micro-batches
        format: table, markdown or json (integers)
    """

    UNREAD: ClassVar[tuple[str, ...]] = (
        *all_but("dataset", DatasetSettings, "name", "root", "classes", "flops_size", "crop", "batch_size"),
        *all_but("model", ModelSettings, "name", "ham.rank"),
    )

    model: ModelSettings = field(default_factory=ModelSettings)
    dataset: DatasetSettings = field(default_factory=DatasetSettings)
    height: int | None = None
    width: int | None = None
    num_classes: int | None = None
    depth: int = 0
    memory: bool = False
    format: CountFormat = CountFormat.table

    def __post_init__(self) -> None:
        require(self.depth >= 0, "depth", self.depth, "a number of levels, 0 for none")
        for key in ("height", "width", "num_classes"):
            value = getattr(self, key)
            require(value is None or value >= 1, key, value, "at least 1")


@dataclass
class ReportConfig:
    """`report FOLDER` or `report compare A B`.

    Attributes:
        path: a sweep's folder, or any folder with runs below it
        output: where the page goes; null: PATH/report
        compare: two folders of evaluations
        bootstrap_samples: of a comparison
        dashboard: ENTITY/PROJECT of W&B: publish the dashboard there
        live: serve the page, renewed while the runs below path train
        host: address of this machine to serve at; 0.0.0.0 lets every machine of the network read it
        port: to serve at; 0 takes any that is free
    """

    UNREAD: ClassVar[tuple[str, ...]] = ()

    path: str | None = None
    output: str | None = None
    compare: list[str] = field(default_factory=list)
    bootstrap_samples: int = 5000
    dashboard: str | None = None
    live: bool = False
    host: str = "127.0.0.1"
    port: int = 8008

    def __post_init__(self) -> None:
        require(self.bootstrap_samples >= 1, "bootstrap_samples", self.bootstrap_samples, "at least 1")
        require(0 <= self.port < 2**16, "port", self.port, "0 to 65535")
