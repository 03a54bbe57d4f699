"""From the configuration to the objects of the library: what several runners build alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from segnext import backend
from segnext.config import CommonConfig, DatasetConfig, ModelConfig, TestConfig
from segnext.data.classes import ADE, CAMVID, CITYSCAPES, SHAPES, ClassTable, load_class_table
from segnext.data.creation import create_dataset
from segnext.data.datasets import Dataset
from segnext.errors import ConfigError
from segnext.evaluation.checkpoint import CheckpointInfo
from segnext.evaluation.inference import InferenceSettings
from segnext.tracking.run_folder import RunFolder

__all__ = [
    "inference_settings",
    "known_classes",
    "load_model",
    "open_dataset",
    "open_run_folder",
    "recorded",
    "require_fit",
]

_CLASSES = {"ade": ADE, "cityscapes": CITYSCAPES, "camvid": CAMVID, "shapes": SHAPES}


def open_dataset(config: DatasetConfig, split: str) -> Dataset:
    """The images of one split; raises DataError or ConfigError when they are not there."""
    return create_dataset(
        config.name,
        root=config.root,
        split=split,
        classes=config.classes,
        reduce_zero_label=config.reduce_zero_label,
        validation_fraction=config.validation_fraction,
        split_seed=config.split_seed,
        size=(config.image_size[0], config.image_size[1]),
        length=config.train_images if split == "train" else config.val_images,
    )


def known_classes(config: DatasetConfig) -> ClassTable:
    """Names and colours of the dataset's classes, without its files (``folder``: of its yaml file)."""
    if config.name in _CLASSES:
        return _CLASSES[config.name]
    if config.classes is None:
        raise ConfigError("dataset.classes is not set: name the yaml file with the names of the classes")
    return load_class_table(config.classes)


def inference_settings(config: TestConfig, *, mode: str = "ss", window_batch: int = 1) -> InferenceSettings:
    """How the dataset's images are shown to a model."""
    return InferenceSettings(
        mode=mode,
        test_mode=config.mode.value,
        scale=(config.scale[0], config.scale[1]),
        size_divisor=config.size_divisor,
        crop=(config.crop[0], config.crop[1]),
        stride=(config.stride[0], config.stride[1]),
        window_batch=window_batch,
    )


def require_fit(info: CheckpointInfo | None, *, model: str, dataset: Dataset, checkpoint: str) -> None:
    """Raises ConfigError when a checkpoint says it is of another size or other classes than asked for."""
    if info is None:
        return
    if info.model != model:
        raise ConfigError(f"checkpoint {checkpoint} is of model={info.model}, not {model}: add model={info.model}")
    if len(info.classes) != len(dataset.classes):
        raise ConfigError(
            f"checkpoint {checkpoint} knows the {len(info.classes)} classes of {info.dataset}, "
            f"dataset={dataset.classes.name} has {len(dataset.classes)}: name the data it was trained for"
        )


def load_model(
    config: ModelConfig, path: Path, *, num_classes: int, device: str, info: CheckpointInfo | None = None
) -> Any:
    """The model of ``config`` with the weights of ``path``, on ``device``; WeightsError unless they fit completely."""
    backend.start(device, announce=print)
    from segnext.models.segmenter import create_model  # these import Jittor
    from segnext.weights.loading import load_weights

    rank = info.nmf_rank if info is not None else config.ham.rank
    model = create_model(config.name, num_classes=num_classes, nmf_rank=rank)
    load_weights(model, path)
    return model


def open_run_folder(config: CommonConfig, name: str) -> RunFolder:
    """A new folder below ``output_dir``, or the one named by ``run_folder``, holding the resolved configuration."""
    folder = RunFolder.adopt(config.run_folder) if config.run_folder else RunFolder.create(config.output_dir, name)
    folder.write_config(OmegaConf.to_yaml(OmegaConf.structured(config)))
    return folder


@contextmanager
def recorded(folder: RunFolder) -> Iterator[None]:
    """Keeps ``status.json`` of the folder: running, then finished, failed or interrupted."""
    folder.write_status("running")
    try:
        yield
    except KeyboardInterrupt:
        folder.write_status("interrupted", exit_reason="stopped by the user")
        raise
    except BaseException as error:
        folder.write_status("failed", error=str(error), exit_reason=type(error).__name__)
        raise
    folder.write_status("finished")
