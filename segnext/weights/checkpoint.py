"""What a checkpoint says about itself, and where the checkpoint that a user names lies.

Our checkpoints are safetensors files whose header metadata holds, under the key ``segnext``, one JSON object:

    {"model": "tiny", "dataset": "ade", "nmf_rank": 16, "classes": ["wall", …], "palette": [[120, 120, 120], …],
     "test": {"windows": "whole", "scale": [2048, 512], "size_divisor": 32, "crop": [1024, 1024],
              "stride": [768, 768]}, "image_range": null, "iteration": 160000, "mIoU": 0.411}

``iteration`` and ``mIoU`` (a fraction) may be null, and ``image_range`` ([low, high], the values of images with more
than 8 bits that are black and white) as well. Foreign files say nothing; their user names model and classes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from segnext.data.classes import ADE, CITYSCAPES, ClassTable
from segnext.data.settings import InferenceSettings, ReadingSettings, Windows
from segnext.errors import ConfigError, SegNeXtError, WeightsError
from segnext.models.variants import VARIANTS
from segnext.weights import zoo

__all__ = ["EXPORTED", "METADATA_KEY", "CheckpointInfo", "describe", "find_checkpoint", "open_checkpoint"]

METADATA_KEY = "segnext"
EXPORTED = ".onnx"
"""Suffix of exported models, which describe themselves as checkpoints do."""
_DAMAGE = (KeyError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError)
_TEST_KEYS = ("windows", "scale", "size_divisor", "crop", "stride")

_PUBLISHED = {
    "ade": (ADE, InferenceSettings()),
    "cityscapes": (CITYSCAPES, InferenceSettings(windows=Windows.slide, scale=(2048, 1024), size_divisor=1)),
}


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint of ours was trained as.

    Attributes:
        test: the single-scale test that it was made for.
        image_range: (low, high), the values of images with more than 8 bits that were black and white.
        iteration, mIoU: the iterations done, and the validation score (a fraction) after them.
    """

    model: str
    dataset: str
    classes: ClassTable
    nmf_rank: int
    test: InferenceSettings
    iteration: int | None = None
    mIoU: float | None = None
    image_range: tuple[float, float] | None = None

    def require_classes(self, count: int, *, origin: str) -> None:
        """Raises ConfigError unless the checkpoint, which ``origin`` names, knows ``count`` classes."""
        if len(self.classes) != count:
            raise ConfigError(
                f"{origin} knows the {len(self.classes)} classes of {self.dataset}, the dataset has {count}: name the "
                "data it was trained for"
            )

    def test_record(self) -> dict[str, Any]:
        """The settings of the test by name, as far as they belong to a checkpoint."""
        return {key: getattr(self.test, key) for key in _TEST_KEYS}

    def to_metadata(self) -> dict[str, str]:
        """The header metadata to save the weights with."""
        record = {
            "model": self.model,
            "dataset": self.dataset,
            "nmf_rank": self.nmf_rank,
            "classes": list(self.classes.names),
            "palette": self.classes.palette.tolist(),
            "test": self.test_record(),
            "image_range": self.image_range,
            "iteration": self.iteration,
            "mIoU": self.mIoU,
        }
        return {METADATA_KEY: json.dumps(record, ensure_ascii=False)}

    @classmethod
    def read(cls, path: str | Path) -> CheckpointInfo | None:
        """What the file says of itself; None when it is a foreign file.

        Raises:
            WeightsError: the file is missing, or its own description is damaged.
        """
        path = Path(path)
        if not path.is_file():
            raise WeightsError(f"checkpoint {path} does not exist: name a weights file or a run folder")
        if path.suffix == EXPORTED:
            return cls.from_metadata(_onnx_metadata(path), origin=str(path))
        if path.suffix != ".safetensors":
            return None
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"{path} is no safetensors file ({error}): copy or download it again") from error
        return cls.from_metadata(metadata, origin=str(path))

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], *, origin: str) -> CheckpointInfo | None:
        """What metadata made by ``to_metadata`` say; None when there is nothing of ours in them.

        Raises:
            WeightsError: they are damaged; ``origin`` is the culprit.
        """
        if METADATA_KEY not in metadata:
            return None
        try:
            return cls._from_record(json.loads(metadata[METADATA_KEY]))
        except (*_DAMAGE, SegNeXtError) as error:
            raise WeightsError(
                f"{origin} has a damaged description of itself ({error!r}): name model and classes instead"
            ) from error

    @classmethod
    def _from_record(cls, record: dict[str, Any]) -> CheckpointInfo:
        iteration, miou, image_range = (record.get(key) for key in ("iteration", "mIoU", "image_range"))
        if iteration is not None and not (isinstance(iteration, int) and iteration >= 0):
            raise ValueError(f"iteration {iteration}")
        if miou is not None and not 0 <= miou <= 1:
            raise ValueError(f"mIoU {miou}")
        names = [record["model"], record["dataset"], *record["classes"]]
        if not all(isinstance(name, str) for name in names):
            raise ValueError("names that are no text")
        stored = {"windows": record["test"].get("test_mode"), **record["test"]}  # as it was called before
        test: dict[str, Any] = {key: stored[key] for key in _TEST_KEYS}
        test = {key: tuple(value) if isinstance(value, list) else value for key, value in test.items()}
        palette = np.array(record["palette"], np.uint8)
        return cls(
            model=record["model"],
            dataset=record["dataset"],
            classes=ClassTable(record["dataset"], tuple(record["classes"]), palette),
            nmf_rank=int(record["nmf_rank"]),
            test=InferenceSettings(**test | {"windows": Windows(test["windows"])}),
            iteration=iteration,
            mIoU=miou,
            image_range=ReadingSettings(image_range=image_range).image_range,
        )


def _onnx_metadata(path: Path) -> dict[str, str]:
    try:
        import onnx  # of the extra `deploy`
    except ImportError as error:
        raise WeightsError(
            f"{path} takes the package onnx to read ({error}): pip install 'segnext-jittor[deploy]'"
        ) from error
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # of protobuf's own kinds
        raise WeightsError(f"{path} is no ONNX file: name a file that runners.export wrote") from error
    return {entry.key: entry.value for entry in model.metadata_props}


def open_checkpoint(path: str | Path) -> tuple[Path, CheckpointInfo | None]:
    """Finds the weights file that ``path`` means (see ``find_checkpoint``), and what is known of it.

    Raises:
        WeightsError: see ``find_checkpoint`` and ``CheckpointInfo.read``.
    """
    file = find_checkpoint(path)
    return file, describe(path)


def describe(path: str | Path) -> CheckpointInfo | None:
    """What is known of a checkpoint, None of a foreign one; a published one need not be there yet.

    Raises:
        WeightsError: see ``find_checkpoint`` and ``CheckpointInfo.read``.
    """
    if str(path).startswith(zoo.PREFIX):
        return _published(str(path).removeprefix(zoo.PREFIX))
    return CheckpointInfo.read(find_checkpoint(path))


def find_checkpoint(path: str | Path) -> Path:
    """The weights file that ``path`` means.

    Args:
        path: a weights file; a run folder, of which the best, else the latest weights are taken; or ``zoo:NAME``,
            which is downloaded where it is not there yet.

    Raises:
        WeightsError: there is no such file, the run folder has no checkpoint yet, or the download failed.
    """
    if str(path).startswith(zoo.PREFIX):
        return zoo.locate(path)
    path = Path(path).expanduser()
    if path.is_file():
        return path
    if not path.is_dir():
        raise WeightsError(f"checkpoint {path} does not exist: name a weights file or a run folder")
    folder = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    for name in ("best.safetensors", "latest.safetensors"):
        if (folder / name).is_file():
            return folder / name
    raise WeightsError(
        f"{path} holds no checkpoints/best.safetensors or latest.safetensors: "
        "name a run folder that has been evaluated or checkpointed, or a weights file"
    )


def _published(name: str) -> CheckpointInfo:
    """What is known of a published segmentation checkpoint, from its name: ``tiny_ade`` … ``large_cityscapes``."""
    model, _, dataset = name.partition("_")
    if dataset not in _PUBLISHED or model not in VARIANTS:
        raise WeightsError(f"zoo:{name} is a backbone, not a whole model: choose one like zoo:tiny_ade")
    classes, test = _PUBLISHED[dataset]
    return CheckpointInfo(model, dataset, classes, VARIANTS[model].nmf_rank, test)
