"""Peak device memory of a training step, counted from the network's shapes; free of Jittor, and of any card.

Counted is what operators keep for the backward pass on a GPU, map by map, with what is alive beside it when that pass
begins. docs/gpu.md compares it with the memory that was recorded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from segnext.models.complexity import complexity, stage_pixels
from segnext.models.settings import ModelSettings, Precision
from segnext.models.variants import Variant, get_variant

__all__ = ["Division", "divisions", "training_memory"]

_FLOAT = 4
_STATE = 6 * _FLOAT  # of a parameter: itself, its gradient and both moments; while it moves, more of them
_NMF_MAPS = 31  # of coefficients, in the gradient of the factorisation: 22 are kept
# Maps that a block keeps beside its sums and one of its MLP's hidden channels: inputs and results of products.
_BLOCK = 8
_HELD = 1.1  # what the allocator holds, of what is in use
_FRESH = 1.9  # the head's share of that where blocks have left nothing that its maps fit into


@dataclass(frozen=True)
class Division:
    """A way to compute one and the same step.

    Attributes:
        micro_batch: images per forward and backward pass.
        checkpointing: whether blocks are computed again for the gradient.
        memory: bytes of device memory at its peak, without the GiB or so of CUDA and its libraries.
    """

    micro_batch: int
    checkpointing: bool
    memory: int


def divisions(
    model: ModelSettings, *, num_classes: int, crop: tuple[int, int], batch: int, precision: Precision
) -> Iterator[Division]:
    """The ways to compute a step over ``batch`` images of ``crop``, height and width, the nearest to the recipe first.

    Whole, with and without computing blocks again, then in ever smaller micro-batches that divide the batch: batch norm
    sees fewer images then, and nothing else differs.
    """
    for size in range(batch, 0, -1):
        if batch % size == 0:
            for checkpointing in (False, True):
                memory = training_memory(
                    model,
                    num_classes=num_classes,
                    crop=crop,
                    images=size,
                    precision=precision,
                    checkpointing=checkpointing,
                )
                yield Division(size, checkpointing, memory)


def training_memory(
    model: ModelSettings,
    *,
    num_classes: int,
    crop: tuple[int, int],
    images: int,
    precision: Precision,
    checkpointing: bool,
) -> int:
    """Bytes at the peak of a pass over ``images`` images, with weights, gradients and moments."""
    variant = get_variant(model.name)
    narrow = _FLOAT if precision.compute_type == "float32" else 2
    areas = stage_pixels(*crop)
    per_image = 3 * crop[0] * crop[1] * (_FLOAT + narrow) + _stem(variant, narrow, areas)
    blocks = []
    for channels, ratio, depth, pixels in zip(
        variant.embed_dims, variant.mlp_ratios, variant.depths, areas[1:], strict=True
    ):
        block = pixels * channels * narrow * (_BLOCK + ratio)
        kept = pixels * channels * 2 * _FLOAT  # the sums after attention and MLP
        blocks.append(block)
        per_image += depth * (pixels * channels * _FLOAT if checkpointing else block + kept)
        per_image += 2 * pixels * channels * _FLOAT  # the norm after the stage, and what it is computed from
    # A block that is computed again has gradients as well.
    per_image += 2 * max(blocks) if checkpointing else 0
    head = _head(variant, model.nmf_rank, num_classes, narrow, areas[2])
    per_image += int(_FRESH * head) if checkpointing else head
    parameters = complexity(model.name, num_classes=num_classes, height=32, width=32, nmf_rank=model.nmf_rank).params
    return int(_HELD * (images * per_image + parameters * _STATE))


def _stem(variant: Variant, narrow: int, areas: list[int]) -> int:
    """Two convolutions with their norms in float32, GELU between them; and those between the stages."""
    half = variant.embed_dims[0] // 2
    size = areas[0] * half * (3 * narrow + _FLOAT)
    return size + sum(
        pixels * channels * (2 * narrow + _FLOAT)
        for channels, pixels in zip(variant.embed_dims, areas[1:], strict=True)
    )


def _head(variant: Variant, rank: int, num_classes: int, narrow: int, pixels: int) -> int:
    """With gradients, at their peak: in the factorisation, or where the first convolution's input gets its own."""
    joined, channels = sum(variant.embed_dims[1:]), variant.decoder_channels
    maps = joined * (_FLOAT + narrow)  # as they come, and for the convolution
    maps += channels * (
        2 * _FLOAT + 10 * narrow
    )  # three norms, before, after, after ReLU; into the factorisation and out
    maps += num_classes * (narrow + 2 * _FLOAT)  # logits and their gradient
    return pixels * (maps + max(joined * (2 * _FLOAT + 3 * narrow), _NMF_MAPS * rank * _FLOAT))
