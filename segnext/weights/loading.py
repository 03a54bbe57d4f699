"""Loads weights into a model, completely or not at all, and says what became of every tensor."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from segnext.errors import WeightsError
from segnext.models.tensor_shapes import CLASSIFIER, infer_size, shapes_by_size
from segnext.weights import zoo
from segnext.weights.file_formats import open_container
from segnext.weights.key_format import Adapted, to_official, unwrap
from segnext.weights.lazy_arrays import StoredArray

__all__ = ["ArrayModel", "HasTensors", "LoadReport", "load_weights", "read_weights"]

logger = logging.getLogger(__name__)

Shape = tuple[int, ...]

PARTS = ("all", "backbone")
_SHOWN = 4  # culprits named in an error


class HasTensors(Protocol):
    """A model: gives its tensors by official name, each with ``shape``, ``dtype`` and ``assign(array)``."""

    def tensors(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class LoadReport:
    """What became of every tensor of a file and of a model. Names are official ones except in ``ignored``.

    Attributes:
        path: of the file.
        matched: tensors of the model that take their numbers from the file.
        ignored: tensors set aside on purpose: name in the file -> reason.
        kept: tensors of the model left as they were on purpose -> reason.
        missing: tensors of the model that the file lacks.
        unexpected: tensors of the file that the model lacks.
        conflicts: tensors of another shape: name -> (shape in the file, shape in the model).
        converted: tensors of another number format than float32, by format.
        expanded: tensors that repeat fewer numbers of the file.
    """

    path: Path
    matched: tuple[str, ...]
    ignored: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    conflicts: dict[str, tuple[Shape, Shape]] = field(default_factory=dict)
    converted: dict[str, int] = field(default_factory=dict)
    expanded: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every tensor that was to be loaded found its numbers."""
        return not self.missing and not self.conflicts

    @property
    def oddities(self) -> list[str]:
        """What is taken, but is not what a training writes."""
        lines = [f"widened or rounded to float32: {_tensors(n)} of {kind}" for kind, n in self.converted.items()]
        if self.expanded:
            lines.append(f"repeat fewer numbers (expanded in PyTorch): {_tensors(len(self.expanded))}")
        return lines

    def __str__(self) -> str:
        lines = [f"{self.path.name}: {_tensors(len(self.matched))} loaded"]
        for title, reasons in (("ignored", self.ignored), ("left as they were", self.kept)):
            for reason, count in Counter(reasons.values()).items():
                lines.append(f"  {title}: {_tensors(count)} ({reason})")
        lines += [f"  {oddity}" for oddity in self.oddities]
        shapes = [f"{name} {file} in the file, {own} in the model" for name, (file, own) in self.conflicts.items()]
        for title, culprits in (
            ("of another shape", shapes),
            ("missing in the file", self.missing),
            ("unknown to the model", self.unexpected),
        ):
            if culprits:
                lines.append(f"  {title}: {_tensors(len(culprits))}")
                lines += [f"    {culprit}" for culprit in culprits[:_SHOWN]]
                lines += [f"    and {len(culprits) - _SHOWN} more"] * (len(culprits) > _SHOWN)
        return "\n".join(lines)


def read_weights(path: str | Path) -> Adapted:
    """Reads a weights file of any known kind: official name -> array described, and what was set aside.

    ``path`` may be a name of the zoo (``zoo:tiny_ade``). Raises WeightsError, see ``open_container``.
    """
    path = zoo.locate(path)
    return to_official(unwrap(open_container(path), origin=str(path)), origin=str(path))


def load_weights(
    model: HasTensors, path: str | Path, *, part: str = "all", reset_classifier: bool = False
) -> LoadReport:
    """Loads a weights file into a model; either every tensor of ``part`` is assigned, or none and it raises.

    Args:
        model: what to fill, e.g. from ``create_model``.
        path: .safetensors, .pkl (Jittor), .pth (PyTorch; official or mmsegmentation), or ``zoo:NAME``.
        part: ``all``, or ``backbone`` for files of ImageNet backbones and to take the backbone alone.
        reset_classifier: leave the model its own classifier (for another set of classes).

    Returns:
        What was matched, ignored and unexpected.

    Raises:
        WeightsError: the file is missing, damaged or unsafe, does not cover the model, is of another size,
            or holds numbers that are not finite. Nothing was assigned then.
    """
    if part not in PARTS:
        raise WeightsError(f"part={part} is unknown: choose one of {', '.join(PARTS)}")
    path = zoo.locate(path)
    source = read_weights(path)
    targets = model.tensors()
    shapes = {name: tuple(var.shape) for name, var in targets.items()}
    report, chosen = _compare(path, source, shapes, part=part, reset_classifier=reset_classifier)
    if not report.complete or _is_of_another_size(report.unexpected):
        raise WeightsError(_misfit(report, source.tensors, targets))
    values = {name: _value(path, name, stored, targets[name]) for name, stored in chosen.items()}
    for name, array in values.items():
        targets[name].assign(array)
    for oddity in report.oddities:
        logger.warning("%s: %s", path, oddity)
    return report


def _compare(
    path: Path, source: Adapted, targets: Mapping[str, Shape], *, part: str, reset_classifier: bool
) -> tuple[LoadReport, dict[str, StoredArray]]:
    ignored = dict(source.ignored)
    kept: dict[str, str] = {}
    offered: dict[str, StoredArray] = {}
    for name, stored in source.tensors.items():
        if part == "backbone" and not name.startswith("backbone."):
            ignored[name] = "only the backbone was asked for"
        elif reset_classifier and name.startswith(CLASSIFIER):
            ignored[name] = "classifier of the file, a new one was asked for"
        else:
            offered[name] = stored
    wanted: dict[str, Shape] = {}
    for name, shape in targets.items():
        if part == "backbone" and not name.startswith("backbone."):
            kept[name] = "only the backbone was asked for"
        elif reset_classifier and name.startswith(CLASSIFIER):
            kept[name] = "a new classifier was asked for"
        else:
            wanted[name] = shape
    common = {name: stored for name, stored in offered.items() if name in wanted}
    conflicts = {name: (stored.shape, wanted[name]) for name, stored in common.items() if stored.shape != wanted[name]}
    matched = {name: stored for name, stored in common.items() if name not in conflicts}
    report = LoadReport(
        path=path,
        matched=tuple(matched),
        ignored=ignored,
        kept=kept,
        missing=tuple(name for name in wanted if name not in offered),
        unexpected=tuple(name for name in offered if name not in wanted),
        conflicts=conflicts,
        converted=dict(Counter(stored.dtype for stored in matched.values() if stored.dtype != "float32")),
        expanded=tuple(name for name, stored in matched.items() if stored.expanded),
    )
    return report, matched


def _value(path: Path, name: str, stored: StoredArray, target: Any) -> npt.NDArray[np.float32]:
    if str(target.dtype) != "float32":
        raise WeightsError(f"{name} of the model is {target.dtype}: load weights before changing its precision")
    if not stored.dtype.startswith(("float", "bfloat")):
        raise WeightsError(f"{path}: {name} holds {stored.dtype} numbers, weights are float32")
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite and is refused below
        array: npt.NDArray[np.float32] = np.array(stored.read(), dtype=np.float32, order="C")
    if not np.isfinite(array).all():
        bad = int(array.size - np.isfinite(array).sum())
        raise WeightsError(
            f"{path}: {name} holds {bad} of {array.size} numbers that are not finite: "
            "the training that wrote it had diverged, take an earlier checkpoint"
        )
    return array


def _is_of_another_size(unexpected: Sequence[str]) -> bool:
    """Whether surplus tensors belong to SegNeXt, as when a larger model's file covers a smaller one by name."""
    known = shapes_by_size()
    return any(name in layout for name in unexpected for layout in known.values())


def _misfit(report: LoadReport, offered: Mapping[str, StoredArray], targets: Mapping[str, Any]) -> str:
    wanted = len(report.matched) + len(report.missing) + len(report.conflicts)
    lines = [
        f"{report.path} does not fit the model: {len(report.matched)} of {wanted} tensors match, nothing was loaded"
    ]
    lines += str(report).splitlines()[1:]
    lines.append(f"  cure: {_cure(report, offered, targets)}")
    return "\n".join(lines)


def _cure(report: LoadReport, offered: Mapping[str, StoredArray], targets: Mapping[str, Any]) -> str:
    in_file = infer_size({name: stored.shape for name, stored in offered.items()})
    in_model = infer_size({name: tuple(var.shape) for name, var in targets.items()})
    if in_file and in_model and in_file != in_model:
        return f"this is a {in_file} checkpoint, you asked for model={in_model}: set model={in_file}"
    classifier = report.conflicts.get(f"{CLASSIFIER}weight")
    if classifier and all(name.startswith(CLASSIFIER) for name in report.conflicts) and not report.missing:
        file, model = classifier[0][0], classifier[1][0]
        return (
            f"the file predicts {file} classes and the model {model}: choose the dataset it was trained on, "
            "or model.reset_classifier=true for a new classifier"
        )
    if in_file and not any(name.startswith("decode_head.") for name in offered):
        return "this file holds a backbone alone: give it as model.pretrained, or load it with part='backbone'"
    if not report.matched:
        return "this is no SegNeXt checkpoint: check the path"
    return "the file is incomplete or of a changed model: save the whole state dict again"


def _tensors(count: int) -> str:
    return f"{count} tensor" if count == 1 else f"{count} tensors"


class ArrayModel:
    """Named float32 arrays of given shapes, which ``load_weights`` fills and ``save_weights`` writes.

    ``arrays`` holds them by name once they were loaded; before, a name is absent.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.arrays: dict[str, npt.NDArray[np.float32]] = {}
        self._slots = {name: _Slot(name, tuple(shape), self.arrays) for name, shape in shapes.items()}

    def tensors(self) -> dict[str, Any]:
        """Returns official name -> slot with ``shape``, ``dtype`` and ``assign``, like a model's variables."""
        return dict(self._slots)


class _Slot:
    dtype = "float32"

    def __init__(self, name: str, shape: tuple[int, ...], arrays: dict[str, npt.NDArray[np.float32]]) -> None:
        self.shape = shape
        self._name = name
        self._arrays = arrays

    def assign(self, array: npt.NDArray[np.float32]) -> None:
        self._arrays[self._name] = array
