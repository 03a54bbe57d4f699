"""What an exported file is to be."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from segnext.data.settings import SMALLEST_INPUT
from segnext.settings import MISSING, Settings, require

__all__ = ["ExportSettings", "InputKind", "InputSettings", "OutputKind", "OutputSettings", "Quantisation", "Storage"]

OLDEST_OPSET, NEWEST_OPSET = 17, 21  # 17 has LayerNormalization; 21 is what onnx 1.17 and ONNX Runtime 1.20 know


class InputKind(str, Enum):
    """``tensor``: normalised float32 (B, 3, H, W); ``image``: uint8 RGB (H, W, 3), which the graph normalises."""

    tensor = "tensor"
    image = "image"


class OutputKind(str, Enum):
    """``logits`` at stride 8; ``probabilities``, ``labels``: at the size of the input, resized in the graph."""

    logits = "logits"
    probabilities = "probabilities"
    labels = "labels"


class Quantisation(str, Enum):
    """``int8``: convolutions in eight bits, the rest in float32."""

    none = "none"
    int8 = "int8"


class Storage(str, Enum):
    """How the file stores the weights; the graph computes in float32 either way."""

    float32 = "float32"
    float16 = "float16"


@dataclass
class InputSettings:
    """What goes into the graph.

    Attributes:
        kind: tensor (normalised float32 (B,3,H,W)) or image (uint8 RGB (H,W,3), normalised in the graph)
    """

    kind: InputKind = InputKind.tensor


@dataclass
class OutputSettings:
    """What comes out of the graph; of a single image without the batch.

    Attributes:
        path: the file to write; output=FILE for short
        kind: logits (B,K,⌈H/8⌉,⌈W/8⌉), probabilities (B,K,H,W) or labels (B,H,W) int32
    """

    path: str = MISSING
    kind: OutputKind = OutputKind.logits


@dataclass
class ExportSettings(Settings):
    """The interface of the graph, and how its weights are stored.

    Attributes:
        input: what goes in
        output: what comes out
        size: (height, width) of the input in pixels; null leaves both free
        weights: how the file stores them, float32 or float16; the graph computes in float32
        opset: of ONNX
        seed: chooses the bases that the file stores: those of dataset.test.bases=fixed with the same seed
    """

    input: InputSettings = field(default_factory=InputSettings)
    output: OutputSettings = field(default_factory=OutputSettings)
    size: tuple[int, int] | None = None
    weights: Storage = Storage.float32
    opset: int = OLDEST_OPSET
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size is not None:
            self.size = tuple(self.size)  # type: ignore[assignment]  # OmegaConf has lists alone
        if self.size is not None:
            fits = len(self.size) == 2 and min(self.size) >= SMALLEST_INPUT
            wanted = f"height and width of at least {SMALLEST_INPUT} pixels, as size=[512,512]"
            require(fits, "size", list(self.size), wanted)
        require(OLDEST_OPSET <= self.opset <= NEWEST_OPSET, "opset", self.opset, f"{OLDEST_OPSET} to {NEWEST_OPSET}")
        require(self.seed >= 0, "seed", self.seed, "at least 0")
