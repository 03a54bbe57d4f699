"""Names and shapes of every tensor of a SegNeXt model, without building one.

The official names (those of the SegNeXt repository and of JSeg), in the order of PyTorch's ``state_dict``.
Counting, recognising a checkpoint's size and telling what it lacks all read from here.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping

from segnext.models.variants import STRIPS, VARIANTS, Variant, get_variant

__all__ = ["CLASSIFIER", "infer_size", "is_running_statistic", "shapes_by_size", "tensor_shapes"]

Shape = tuple[int, ...]

CLASSIFIER = "decode_head.conv_seg."
"""Prefix of the last convolution, the only tensors whose shape depends on the number of classes."""

_GATING_KERNELS = {"conv0": (5, 5)}
for _number, _length in enumerate(STRIPS):
    _GATING_KERNELS |= {f"conv{_number}_1": (1, _length), f"conv{_number}_2": (_length, 1)}


def tensor_shapes(name: str, *, num_classes: int) -> dict[str, Shape]:
    """Returns official tensor name -> shape of the model ``name`` (tiny, small, base or large).

    Holds every parameter and every running statistic of batch normalisation (``running_mean``,
    ``running_var``), but not PyTorch's ``num_batches_tracked``. Raises ConfigError for an unknown name.
    """
    variant = get_variant(name)
    return dict([*_backbone(variant), *_decode_head(variant, num_classes)])


def is_running_statistic(name: str) -> bool:
    """Tells whether a tensor is a running mean or variance: kept in checkpoints, but not trained."""
    return name.endswith((".running_mean", ".running_var"))


def infer_size(shapes: Mapping[str, Shape]) -> str | None:
    """Returns which model's backbone has exactly the names and shapes among ``shapes``, or None.

    Names are official ones; whatever does not start with ``backbone.`` is not looked at.
    """
    found = _backbone_of(shapes)
    return next((name for name, layout in shapes_by_size().items() if _backbone_of(layout) == found), None)


@functools.cache
def shapes_by_size() -> Mapping[str, Mapping[str, Shape]]:
    """Returns the tensors of every model by its name, with one class."""
    return {name: tensor_shapes(name, num_classes=1) for name in VARIANTS}


def _backbone_of(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    return {name: tuple(shape) for name, shape in shapes.items() if name.startswith("backbone.")}


def _backbone(variant: Variant) -> Iterator[tuple[str, Shape]]:
    channels_in = 3
    for index, (channels, depth, ratio) in enumerate(
        zip(variant.embed_dims, variant.depths, variant.mlp_ratios, strict=True)
    ):
        stage = index + 1
        embed = f"backbone.patch_embed{stage}"
        if stage == 1:
            yield from _conv(f"{embed}.proj.0", channels // 2, channels_in, (3, 3))
            yield from _batch_norm(f"{embed}.proj.1", channels // 2)
            yield from _conv(f"{embed}.proj.3", channels, channels // 2, (3, 3))
            yield from _batch_norm(f"{embed}.proj.4", channels)
        else:
            yield from _conv(f"{embed}.proj", channels, channels_in, (3, 3))
            yield from _batch_norm(f"{embed}.norm", channels)
        for block in range(depth):
            yield from _block(f"backbone.block{stage}.{block}", channels, channels * ratio)
        yield from _affine(f"backbone.norm{stage}", channels)
        channels_in = channels


def _block(prefix: str, channels: int, hidden: int) -> Iterator[tuple[str, Shape]]:
    yield f"{prefix}.layer_scale_1", (channels,)
    yield f"{prefix}.layer_scale_2", (channels,)
    yield from _batch_norm(f"{prefix}.norm1", channels)
    yield from _conv(f"{prefix}.attn.proj_1", channels, channels)
    gating_unit = f"{prefix}.attn.spatial_gating_unit"
    for conv, kernel in _GATING_KERNELS.items():
        yield from _conv(f"{gating_unit}.{conv}", channels, 1, kernel)
    yield from _conv(f"{gating_unit}.conv3", channels, channels)
    yield from _conv(f"{prefix}.attn.proj_2", channels, channels)
    yield from _batch_norm(f"{prefix}.norm2", channels)
    yield from _conv(f"{prefix}.mlp.fc1", hidden, channels)
    yield from _conv(f"{prefix}.mlp.dwconv.dwconv", hidden, 1, (3, 3))
    yield from _conv(f"{prefix}.mlp.fc2", channels, hidden)


def _decode_head(variant: Variant, num_classes: int) -> Iterator[tuple[str, Shape]]:
    width, head = variant.decoder_channels, "decode_head"
    yield from _conv(f"{head}.conv_seg", num_classes, width)
    yield from _conv(f"{head}.squeeze.conv", width, sum(variant.embed_dims[1:]), bias=False)
    yield from _affine(f"{head}.squeeze.gn", width)
    yield from _conv(f"{head}.hamburger.ham_in.conv", width, width)
    yield from _conv(f"{head}.hamburger.ham_out.conv", width, width, bias=False)
    yield from _affine(f"{head}.hamburger.ham_out.gn", width)
    yield from _conv(f"{head}.align.conv", width, width, bias=False)
    yield from _affine(f"{head}.align.gn", width)


def _conv(
    prefix: str, out: int, into: int, kernel: tuple[int, int] = (1, 1), *, bias: bool = True
) -> Iterator[tuple[str, Shape]]:
    yield f"{prefix}.weight", (out, into, *kernel)
    if bias:
        yield f"{prefix}.bias", (out,)


def _affine(prefix: str, channels: int) -> Iterator[tuple[str, Shape]]:
    yield f"{prefix}.weight", (channels,)
    yield f"{prefix}.bias", (channels,)


def _batch_norm(prefix: str, channels: int) -> Iterator[tuple[str, Shape]]:
    yield from _affine(prefix, channels)
    yield f"{prefix}.running_mean", (channels,)
    yield f"{prefix}.running_var", (channels,)
