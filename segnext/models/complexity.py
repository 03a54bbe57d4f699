"""Parameters and multiply-accumulates (MACs) of a SegNeXt model, counted without building or running it.

The paper prints MACs, as counted by torchprofile, and calls them FLOPs; this module counts by the same rules:

* convolution: one MAC per weight and output pixel, biases free; matrix product (n×m)(m×p): n·m·p;
* elementwise multiplication and normalisation (batch, layer, group): 1 per element;
* bilinear resize: 4 per output element, including the resize of stage 2 to its own size in the decode head
  and the final one from the logits to the image;
* additions, divisions, GELU, ReLU, softmax, concatenation: free.

Totals equal torchprofile's exactly but for the last three units: its trace also counts three products of two
scalars with which the NMF computes shapes (``H * W`` once and ``B * S`` twice), which do no work on the image.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from typing import TypeVar

from segnext.errors import ConfigError
from segnext.models.tensor_shapes import is_running_statistic, tensor_shapes
from segnext.models.variants import Variant, get_variant

__all__ = ["Complexity", "Macs", "ModuleCost", "complexity", "stage_pixels"]

_T = TypeVar("_T")

_RESIZE = "(resize)"  # operations without a module of their own, in brackets so that no module is called so
_UPSAMPLE = "(upsample)"


@dataclass(frozen=True)
class Macs:
    """Multiply-accumulates by kind of operation, for one image."""

    conv: int = 0
    matmul: int = 0
    resize: int = 0
    multiply: int = 0
    norm: int = 0

    @property
    def total(self) -> int:
        return sum(astuple(self))

    def __add__(self, other: Macs) -> Macs:
        return Macs(*map(operator.add, astuple(self), astuple(other)))


@dataclass(frozen=True)
class ModuleCost:
    """What one module costs, its children included.

    Attributes:
        name: full official name, ``""`` for the whole model. A name whose last part is in brackets is an
            operation that belongs to no module: ``decode_head.(resize)`` and the final ``(upsample)``.
        params: trainable scalars.
        macs: multiply-accumulates by kind.
        children: the modules inside; what they leave of ``macs`` and ``params`` is the module's own
            (layer scale, gating product, factorisation).
    """

    name: str
    params: int
    macs: Macs
    children: tuple[ModuleCost, ...] = ()

    def at_depth(self, depth: int) -> Iterator[ModuleCost]:
        """Yields this module and those inside it down to ``depth`` levels below, parents first."""
        yield self
        if depth > 0:
            for child in self.children:
                yield from child.at_depth(depth - 1)


@dataclass(frozen=True)
class Complexity:
    """Size and cost of one model on one image of ``height`` × ``width`` pixels.

    Attributes:
        params: trainable scalars (running statistics are not among them).
        macs: multiply-accumulates, the figure that the paper calls FLOPs.
        by_kind: the same, by kind of operation.
        modules: the same, by module.
    """

    name: str
    num_classes: int
    height: int
    width: int
    params: int
    macs: int
    by_kind: Macs
    modules: ModuleCost

    @property
    def flops(self) -> int:
        """Floating-point operations if a multiplication and an addition count as two: 2 × MACs."""
        return 2 * self.macs


def complexity(
    name: str,
    *,
    num_classes: int,
    height: int,
    width: int,
    nmf_rank: int | None = None,
    nmf_steps: int = 7,
) -> Complexity:
    """Counts parameters and MACs of one forward pass in evaluation mode, one image, up to full resolution.

    Args:
        name: tiny, small, base or large.
        num_classes: classes predicted.
        height: of the image in pixels, any size; strided convolutions round up as the model does.
        width: likewise.
        nmf_rank: bases of the matrix factorisation, if not those of the variant.
        nmf_steps: its multiplicative updates; 7 in evaluation, 6 in training.

    Returns:
        Integers, instantly: only shapes are computed.

    Raises:
        ConfigError: unknown model, or a size, rank or class count below 1.
    """
    variant = get_variant(name)
    rank = variant.nmf_rank if nmf_rank is None else nmf_rank
    for label, value in {
        "num_classes": num_classes,
        "height": height,
        "width": width,
        "nmf_rank": rank,
        "nmf_steps": nmf_steps,
    }.items():
        if value < 1:
            raise ConfigError(f"{label}={value} makes no model to count: give a whole number of at least 1")
    pixels = stage_pixels(height, width)
    params: dict[str, int] = {}
    macs: dict[str, Macs] = {}
    for tensor, shape in tensor_shapes(name, num_classes=num_classes).items():
        if is_running_statistic(tensor):
            continue
        module, _, leaf = tensor.rpartition(".")
        params[module] = params.get(module, 0) + math.prod(shape)
        cost = _tensor_macs(leaf, shape, pixels[_stage(tensor)])
        macs[module] = macs.get(module, Macs()) + cost
    for module, cost in _functional_macs(variant, num_classes, height * width, pixels, rank, nmf_steps):
        params.setdefault(module, 0)
        macs[module] = macs.get(module, Macs()) + cost
    root = _tree("", params, macs)
    return Complexity(
        name=name,
        num_classes=num_classes,
        height=height,
        width=width,
        params=root.params,
        macs=root.macs.total,
        by_kind=root.macs,
        modules=root,
    )


def stage_pixels(height: int, width: int) -> list[int]:
    """Pixels after 1…5 convolutions of stride 2 (kernel 3, padding 1), each of which yields ⌈size / 2⌉."""
    return [-(-height // stride) * -(-width // stride) for stride in (2, 4, 8, 16, 32)]


def _stage(tensor: str) -> int:
    """How many stride-2 convolutions lie before a module's output, less one: its index into ``stage_pixels``.

    The first two layers of the stem work at half size, stage s of the backbone at 1 / 2^(s+1) and the
    decode head at the size of stage 2.
    """
    if tensor.startswith("decode_head."):
        return 2
    if tensor.startswith(("backbone.patch_embed1.proj.0.", "backbone.patch_embed1.proj.1.")):
        return 0
    module = tensor.split(".")[1]  # patch_embed3, block3 or norm3
    return int(module[-1])


def _tensor_macs(leaf: str, shape: tuple[int, ...], pixels: int) -> Macs:
    elements = math.prod(shape) * pixels
    if leaf.startswith("layer_scale"):
        return Macs(multiply=elements)
    if leaf == "weight":
        return Macs(conv=elements) if len(shape) == 4 else Macs(norm=elements)
    return Macs()  # biases are free


def _functional_macs(
    variant: Variant, num_classes: int, image: int, pixels: Sequence[int], rank: int, steps: int
) -> Iterator[tuple[str, Macs]]:
    """Yields (module, MACs) of what has no parameters: gating, factorisation, resizes."""
    for stage, (channels, depth) in enumerate(zip(variant.embed_dims, variant.depths, strict=True), start=1):
        for block in range(depth):
            gating_unit = f"backbone.block{stage}.{block}.attn.spatial_gating_unit"
            yield gating_unit, Macs(multiply=channels * pixels[stage])
    n, d, r = pixels[2], variant.decoder_channels, rank
    yield f"decode_head.{_RESIZE}", Macs(resize=4 * n * sum(variant.embed_dims[1:]))
    # X is d×n, bases d×r, coefficients n×r. Products with X: one for the first coefficients, two a step, one
    # for the last update of the coefficients; plus the reconstruction: 2·steps + 3. Small Gram matrices:
    # each of the steps updates coefficients and bases, and the coefficients once more: 2·steps + 1.
    yield (
        "decode_head.hamburger.ham",
        Macs(
            matmul=(2 * steps + 3) * n * d * r + (2 * steps + 1) * r * r * (n + d),
            multiply=(steps + 2) * n * r + steps * d * r,  # numerator × factor; the temperature once
        ),
    )
    yield _UPSAMPLE, Macs(resize=4 * num_classes * image)


def _tree(name: str, params: dict[str, int], macs: dict[str, Macs]) -> ModuleCost:
    """Builds the tree of ``name`` from what each module owns, keyed by full name."""
    prefix = f"{name}." if name else ""
    inside = [module for module in params if module.startswith(prefix) and module != name]
    first_parts = dict.fromkeys(module[len(prefix) :].split(".")[0] for module in inside)
    children = tuple(
        _tree(prefix + part, _within(prefix + part, params), _within(prefix + part, macs)) for part in first_parts
    )
    return ModuleCost(
        name=name,
        params=params.get(name, 0) + sum(child.params for child in children),
        macs=sum((child.macs for child in children), start=macs.get(name, Macs())),
        children=children,
    )


def _within(name: str, owned: dict[str, _T]) -> dict[str, _T]:
    return {key: value for key, value in owned.items() if key == name or key.startswith(f"{name}.")}
