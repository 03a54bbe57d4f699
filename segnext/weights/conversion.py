"""A weights file in another format, read back and compared bit for bit; needs neither Jittor nor PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from segnext.errors import WeightsError
from segnext.models.tensor_shapes import CLASSIFIER, infer_size, tensor_shapes
from segnext.weights import zoo
from segnext.weights.checkpoint import CheckpointInfo, open_checkpoint
from segnext.weights.key_format import KeyFormat
from segnext.weights.loading import ArrayModel, load_weights, read_weights
from segnext.weights.saving import save_weights

__all__ = ["convert"]


def convert(
    checkpoint: str,
    target: Path,
    *,
    key_format: KeyFormat = KeyFormat.official,
    model: str | None = None,
    num_classes: int | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> str:
    """Writes the whole model, or the whole backbone, that ``checkpoint`` holds to ``target``, whose suffix says how.

    Args:
        checkpoint: a weights file, a run folder, or ``zoo:NAME``.
        model, num_classes: what it must hold; by default the file tells.
        tell: is told what was read.

    Returns:
        what was written, in one line.

    Raises:
        WeightsError: the input is missing, damaged or incomplete, or what was written came back changed.
    """
    source, info = _open(checkpoint)
    if target.exists() and target.samefile(source):
        raise WeightsError(f"output={target} is the input itself: name another file")
    name, shapes, part = _expected(source, model, num_classes)
    arrays = ArrayModel(shapes)
    tell(str(load_weights(arrays, source, part=part)))
    metadata = _metadata(name, info, safetensors=target.suffix == ".safetensors")
    save_weights(arrays.arrays, target, key_format=key_format, metadata=metadata)
    _verify(arrays, target, part)
    what = "backbone" if part == "backbone" else "model"
    return f"wrote {target}: {what} {name}, {len(arrays.arrays)} tensors, read back bit for bit"


def _open(text: str) -> tuple[Path, CheckpointInfo | None]:
    """The file that ``input`` means, and what is known of its classes."""
    name = text.removeprefix(zoo.PREFIX)
    if text.startswith(zoo.PREFIX) and name in zoo.ZOO and zoo.ZOO[name].is_backbone:
        return zoo.locate(text), None
    return open_checkpoint(text)


def _expected(source: Path, model: str | None, num_classes: int | None) -> tuple[str, dict[str, tuple[int, ...]], str]:
    """Which model the file must hold completely: its name, its tensors, and ``all`` or ``backbone``."""
    found = {name: stored.shape for name, stored in read_weights(source).tensors.items()}
    name = model or infer_size(found)
    if name is None:
        raise WeightsError(
            f"{source} is no complete SegNeXt of a published size: give model=tiny, small, base or large to see "
            "what it lacks"
        )
    classes = num_classes or found.get(f"{CLASSIFIER}weight", (1,))[0]
    shapes = tensor_shapes(name, num_classes=classes)
    if any(tensor.startswith("decode_head.") for tensor in found):
        return name, shapes, "all"
    return name, {tensor: shape for tensor, shape in shapes.items() if tensor.startswith("backbone.")}, "backbone"


def _metadata(name: str, info: CheckpointInfo | None, *, safetensors: bool) -> dict[str, Any]:
    """What goes beside the weights: our own description in safetensors, mmsegmentation's names in PyTorch files."""
    if info is None:
        return {"model": name}
    if safetensors:
        return dict(info.to_metadata())
    return {
        "model": info.model,
        "dataset": info.dataset,
        "classes": list(info.classes.names),
        "palette": info.classes.palette.tolist(),
        "iteration": info.iteration,
        "mIoU": info.mIoU,
    }


def _verify(model: ArrayModel, target: Path, part: str) -> None:
    again = ArrayModel({name: array.shape for name, array in model.arrays.items()})
    load_weights(again, target, part=part)
    for name, array in model.arrays.items():
        if array.tobytes() != again.arrays[name].tobytes():
            raise WeightsError(f"{target}: {name} came back changed: the disk may be faulty, write it elsewhere")
