"""From a checkpoint to a model with its weights: the one way in which evaluate, predict, export and Segmenter load one.

Reading and checking (``load_trained``) needs no Jittor, so that whatever is wrong with a file shows before any work;
``TrainedModel.build`` makes the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segnext.errors import ConfigError, WeightsError
from segnext.models.segnext import SegNeXt, create_model
from segnext.models.settings import HamSettings, ModelSettings, Precision
from segnext.models.tensor_shapes import tensor_shapes
from segnext.weights.checkpoint import EXPORTED, CheckpointInfo, find_checkpoint, open_checkpoint
from segnext.weights.loading import ArrayModel, load_weights
from segnext.weights.zoo import locate

__all__ = ["StartSettings", "TrainedModel", "build_model", "initial_weights", "load_trained"]

Arrays = dict[str, NDArray[np.float32]]


@dataclass
class StartSettings(ModelSettings):
    """A network to train, and the weights that it starts from.

    Attributes:
        pretrained: backbone weights to start from: auto (published), a path, or null (from scratch)
        reset_classifier: draw the classifier anew when `checkpoint` has other classes
    """

    pretrained: str | None = None
    reset_classifier: bool = False


@dataclass(frozen=True)
class TrainedModel:
    """A checkpoint that was read completely and fits its model.

    Attributes:
        path: the weights file.
        info: what it says about itself; None of a foreign file.
        settings: of the network, with the checkpoint's own NMF rank unless another one was asked for.
        num_classes: channels of its logits.
        weights: float32 arrays by official name.
    """

    path: Path
    info: CheckpointInfo | None
    settings: ModelSettings
    num_classes: int
    weights: Arrays

    def build(self, *, precision: Precision | str = Precision.fp32, seed: int = 0) -> SegNeXt:
        """The network with these weights, in training mode; starts Jittor where nobody has."""
        return build_model(
            self.settings, num_classes=self.num_classes, precision=precision, seed=seed, weights=self.weights
        )


def load_trained(
    checkpoint: str | Path, *, settings: ModelSettings | str | None = None, num_classes: int | None = None
) -> TrainedModel:
    """Reads a checkpoint and checks that it covers its model completely.

    Args:
        checkpoint: a weights file, a run folder (its best, else its latest weights), or ``zoo:NAME``.
        settings: of the network, or its name; by default what the checkpoint says. Foreign files say nothing.
        num_classes: by default what the checkpoint says.

    Raises:
        ConfigError: the checkpoint says that it is of another size or number of classes.
        WeightsError: the file is missing, damaged or incomplete, or it does not say what it was trained as.
    """
    path, info = open_checkpoint(checkpoint)
    if path.suffix == EXPORTED:
        raise WeightsError(
            f"{path} is an exported file: add engine=onnxruntime or engine=openvino, or name the checkpoint itself"
        )
    if info is not None and settings is None:
        settings = ModelSettings(info.model, ham=HamSettings(info.nmf_rank))
    if isinstance(settings, str):
        settings = ModelSettings(settings, ham=HamSettings(info.nmf_rank if info is not None else None))
    num_classes = num_classes if num_classes is not None or info is None else len(info.classes)
    if settings is None or num_classes is None:
        raise WeightsError(
            f"{path} does not say what it was trained as: name model (tiny, small, base, large) and classes"
        )
    if info is not None and info.model != settings.name:
        name = settings.name
        raise ConfigError(f"checkpoint {checkpoint} is of model={info.model}, not {name}: add model={info.model}")
    if info is not None:
        info.require_classes(num_classes, origin=f"checkpoint {checkpoint}")
    target = ArrayModel(tensor_shapes(settings.name, num_classes=num_classes))
    load_weights(target, path)
    return TrainedModel(path, info, settings, num_classes, target.arrays)


def initial_weights(settings: StartSettings, *, num_classes: int, checkpoint: str | None = None) -> Arrays:
    """The tensors that a training starts from, by name: all of ``checkpoint``, else all of the pretrained backbone.

    Published files are fetched. Without either the result is empty: training from scratch.

    Raises:
        WeightsError: the file cannot be had or does not cover the model; never is a part of one taken.
    """
    target = ArrayModel(tensor_shapes(settings.name, num_classes=num_classes))
    if checkpoint is not None:
        load_weights(target, find_checkpoint(checkpoint), reset_classifier=settings.reset_classifier)
    elif settings.pretrained is not None:
        backbone = f"zoo:mscan_{settings.name}" if settings.pretrained == "auto" else settings.pretrained
        load_weights(target, locate(backbone), part="backbone")
    return target.arrays


def build_model(
    settings: ModelSettings,
    *,
    num_classes: int,
    precision: Precision | str = Precision.fp32,
    seed: int = 0,
    weights: Mapping[str, NDArray[np.float32]] | None = None,
) -> SegNeXt:
    """The model with freshly drawn weights, and ``weights`` in their place."""
    model = create_model(settings, num_classes=num_classes, precision=precision, seed=seed)
    tensors = model.tensors()
    for name, array in (weights or {}).items():
        tensors[name].assign(array)
    return model
