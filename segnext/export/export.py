"""From a checkpoint's weights to an ONNX file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segnext.data.augmentation import MEAN, STD
from segnext.errors import ExportError
from segnext.evaluation.inference import fixed_bases_seed
from segnext.export.graph import Tensors, build_graph
from segnext.export.settings import ExportSettings
from segnext.files import write_atomically
from segnext.models.noise import Noise
from segnext.models.variants import get_variant
from segnext.weights.checkpoint import CheckpointInfo

__all__ = ["fixed_bases", "write_onnx"]


def write_onnx(
    tensors: Tensors, path: Path, *, info: CheckpointInfo, settings: ExportSettings, revision: str | None = None
) -> Path:
    """Writes the model as an ONNX file, whole or not at all.

    Args:
        tensors: the complete weights by their official names.
        path: of the file; its folder is created.
        info: of the checkpoint; it goes into the file's metadata.
        settings: the interface and how weights are stored.
        revision: of the source, for the metadata.
    """
    metadata = info.to_metadata() | {
        "model": info.model,
        "classes": json.dumps(info.classes.names, ensure_ascii=False),
        "palette": json.dumps(info.classes.palette.tolist()),
        "mean": json.dumps(MEAN),
        "std": json.dumps(STD),
        "mIoU": json.dumps(info.mIoU),
        "revision": revision or "",
        "seed": str(settings.seed),
        "input": settings.input.kind.value,
        "output": settings.output.kind.value,
    }
    bases = fixed_bases(settings.seed, dim=get_variant(info.model).decoder_channels, rank=info.nmf_rank)
    graph = build_graph(tensors, model=info.model, bases_DR=bases, settings=settings, metadata=metadata)
    write_atomically(path, graph.SerializeToString(), error=ExportError)
    return path


def fixed_bases(seed: int, *, dim: int, rank: int) -> NDArray[np.float32]:
    """The bases (dim, rank) themselves, as the network draws them."""
    noise = Noise()
    noise.seed([fixed_bases_seed(seed)])
    noise.start(1, training=False)
    bases: NDArray[np.float32] = noise.bases(dim, rank)[0]
    return bases
