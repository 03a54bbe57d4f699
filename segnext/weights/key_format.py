"""The one place that knows how other projects wrap and name the weights of SegNeXt.

Inside this package every tensor has its official name (SegNeXt and JSeg repositories). Only mmsegmentation
differs in a name: it calls ``mlp.dwconv`` what they call ``mlp.dwconv.dwconv``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from segnext.errors import WeightsError
from segnext.weights.lazy_arrays import StoredArray

__all__ = ["Adapted", "KeyFormat", "renamed_for", "to_official", "unwrap", "with_batch_counters"]

T = TypeVar("T")


class KeyFormat(str, Enum):
    """How tensors are named: as SegNeXt's and JSeg's repositories do, or as mmsegmentation does."""

    official = "official"
    mmseg = "mmseg"

    def __str__(self) -> str:
        return str(self.value)


_WRAPPERS = ("state_dict", "model")
"""Where a training checkpoint keeps its weights: mmcv and timm under the first, JSeg under the second."""
_DEEPEST = 4  # wrappers inside each other

_BARE_BACKBONE = re.compile(r"(patch_embed|block|norm)[1-4]\.")
_SHORT_DEPTHWISE = re.compile(r"\.mlp\.dwconv\.(weight|bias)$")
_LONG_DEPTHWISE = re.compile(r"\.mlp\.dwconv\.dwconv\.(weight|bias)$")
_BATCH_COUNTER = ".num_batches_tracked"


@dataclass(frozen=True)
class Adapted:
    """Tensors under official names, and those set aside: name in the file -> reason."""

    tensors: dict[str, StoredArray]
    ignored: dict[str, str]


def unwrap(node: Any, *, origin: str) -> dict[str, StoredArray]:
    """Finds the weights in the object of a file: a dict of arrays, bare or inside a training checkpoint.

    Raises:
        WeightsError: there is none, or it holds something else than arrays; ``origin`` names the file.
    """
    wrapped = ""
    for _ in range(_DEEPEST):  # no endless loop in a dict that holds itself
        if not isinstance(node, dict):
            break
        key = next((key for key in _WRAPPERS if isinstance(node.get(key), dict)), None)
        if key is None:
            break
        node, wrapped = node[key], f" under '{key}'"
    if not isinstance(node, dict):
        raise WeightsError(f"{origin} holds a {type(node).__name__}, not a dict of named weights")
    others = [str(key) for key, value in node.items() if not isinstance(value, StoredArray)]
    if not node or len(others) == len(node):
        listing = ", ".join(others[:5]) or "nothing"
        raise WeightsError(f"{origin} holds no weights{wrapped}, only: {listing}. Is it another kind of file?")
    if others:
        raise WeightsError(f"{origin}: {others[0]}{wrapped} is no array; save the model's state dict alone")
    return {str(key): value for key, value in node.items()}


def to_official(tensors: Mapping[str, StoredArray], *, origin: str) -> Adapted:
    """Brings names of any known format to the official one and sets aside what SegNeXt does not need.

    Removes ``module.`` (written by data-parallel wrappers), adds ``backbone.`` to the files of ImageNet
    backbones, which come without, and lengthens mmsegmentation's ``mlp.dwconv``.

    Raises:
        WeightsError: two tensors of the file have the same official name.
    """
    adapted: dict[str, StoredArray] = {}
    sources: dict[str, str] = {}
    ignored: dict[str, str] = {}
    for source, tensor in tensors.items():
        name = source
        while name.startswith("module."):
            name = name.removeprefix("module.")
        if name.endswith(_BATCH_COUNTER):
            ignored[source] = "counts batches in PyTorch, without effect on the network"
            continue
        if name.removeprefix("backbone.").startswith("head."):
            ignored[source] = "ImageNet classifier, not part of a segmentation network"
            continue
        if _BARE_BACKBONE.match(name):
            name = f"backbone.{name}"
        name = _SHORT_DEPTHWISE.sub(r".mlp.dwconv.dwconv.\1", name)
        if name in adapted:
            raise WeightsError(f"{origin} is ambiguous: {sources[name]} and {source} both stand for {name}")
        adapted[name] = tensor
        sources[name] = source
    return Adapted(adapted, ignored)


def renamed_for(tensors: Mapping[str, T], key_format: KeyFormat | str) -> dict[str, T]:
    """Returns officially named tensors under the names of ``key_format``; WeightsError if it is unknown."""
    if key_format not in list(KeyFormat):
        raise WeightsError(f"key_format={key_format} is unknown: choose one of {', '.join(KeyFormat)}")
    if key_format == KeyFormat.official:
        return dict(tensors)
    return {_LONG_DEPTHWISE.sub(r".mlp.dwconv.\1", name): tensor for name, tensor in tensors.items()}


def with_batch_counters(tensors: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Adds the zero ``num_batches_tracked`` that PyTorch keeps, and demands, after every running variance."""
    result: dict[str, npt.NDArray[Any]] = {}
    for name, tensor in tensors.items():
        result[name] = tensor
        if name.endswith(".running_var"):
            result[name.removesuffix(".running_var") + _BATCH_COUNTER] = np.zeros((), np.int64)
    return result
