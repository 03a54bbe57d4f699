"""Batch norms and layer scales folded into the convolutions beside them, for inference.

In evaluation mode a batch norm multiplies and adds constants, and so does a layer scale. With W, b a convolution, s, t
what a norm makes of x (s·x + t) and l a layer scale, all per channel:

    norm after it     s·(W x + b) + t  =  (s·W) x + (s·b + t)
    norm before a 1×1 W (s·x + t) + b  =  (W·s) x + (W t + b)
    attention         x + l·(W n + b + n), n = s·x + t  =  (1 + l·s)·x + (l·W) n + l·(b + t)

Only sums and products change places: results differ in the last digits.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segnext.backend import Module, Var, jt
from segnext.kernels.elementwise import add
from segnext.kernels.norm import EPSILON
from segnext.kernels.residual import add_scaled
from segnext.models.layers import BatchNorm, Conv
from segnext.models.mscan import Block, PatchEmbed, Stem
from segnext.models.segnext import SegNeXt

__all__ = ["folded"]

Channels = NDArray[np.float64]


def folded(model: SegNeXt) -> SegNeXt:
    """A copy of ``model``, which is in evaluation mode, without batch norms and layer scales.

    Its changed convolutions keep the weights of this moment; everything else, such as the decode head, is ``model``'s
    own. Train and save ``model``, not the copy. With convolutions in bf16 or fp16, where more than the last digits
    would change, it is ``model`` itself.
    """
    result, backbone = copy(model), copy(model.backbone)
    if backbone.patch_embed2.proj.compute_type != "float32":
        return model
    for stage in range(1, 5):
        embed, blocks = f"patch_embed{stage}", f"block{stage}"
        setattr(backbone, embed, _without_norms(getattr(backbone, embed)))
        setattr(backbone, blocks, jt.nn.ModuleList([FoldedBlock(block) for block in getattr(backbone, blocks)]))
    backbone.is_train = False  # eval() would freeze the parameters that both share
    result.backbone = backbone
    return result


class FoldedBlock(Module):
    """A ``Block`` in evaluation mode: attention and MLP, each added to its input."""

    def __init__(self, block: Block) -> None:
        self.row = block.row
        self.attn, self.mlp = copy(block.attn), copy(block.mlp)
        first, second = _numpy(block.layer_scale_1), _numpy(block.layer_scale_2)
        factor, offset = _affine(block.norm1)
        self.attn.proj_1 = _norm_before(block.attn.proj_1, factor, offset)
        self.attn.proj_2 = _norm_after(block.attn.proj_2, first, first * offset)
        self.shortcut = _var(1 + first * factor)
        self.mlp.fc1 = _norm_before(block.mlp.fc1, *_affine(block.norm2))
        self.mlp.fc2 = _norm_after(block.mlp.fc2, second, np.zeros_like(second))

    def execute(self, x: Var, keep: Var) -> Var:
        x = add_scaled(self.attn(x), x, self.shortcut, keep, row=self.row)  # keep is 1
        return add(x, self.mlp(x))


class Nothing(Module):
    """In the place of a norm."""

    def execute(self, x: Var) -> Var:
        return x


def _without_norms(embed: Any) -> Any:
    result = copy(embed)
    if isinstance(embed, PatchEmbed):
        result.proj, result.norm = _norm_after(embed.proj, *_affine(embed.norm)), Nothing()
        return result
    assert isinstance(embed, Stem)
    first, norm, activation, second, last = (embed.proj[number] for number in range(5))
    result.proj = jt.nn.Sequential(
        _norm_after(first, *_affine(norm)), Nothing(), activation, _norm_after(second, *_affine(last)), Nothing()
    )
    return result


def _affine(norm: BatchNorm) -> tuple[Channels, Channels]:
    """(s, t) of what the norm makes of x in evaluation mode: s·x + t."""
    factor = _numpy(norm.weight) / np.sqrt(_numpy(norm.running_var) + EPSILON)
    return factor, _numpy(norm.bias) - factor * _numpy(norm.running_mean)


def _norm_after(conv: Conv, factor: Channels, offset: Channels) -> Conv:
    weight, bias = _numpy(conv.weight), _numpy(conv.bias)
    return _changed(conv, factor[:, None, None, None] * weight, factor * bias + offset)


def _norm_before(conv: Conv, factor: Channels, offset: Channels) -> Conv:
    """Of a 1×1 convolution: a border of zeros would have to be one of normalised zeros."""
    weight, bias = _numpy(conv.weight), _numpy(conv.bias)
    return _changed(conv, weight * factor[:, None, None], weight[:, :, 0, 0] @ offset + bias)


def _changed(conv: Conv, weight: Channels, bias: Channels) -> Conv:
    result = copy(conv)
    result.weight, result.bias = _var(weight), _var(bias)
    return result


def _numpy(var: Var) -> Channels:
    result: Channels = var.numpy().astype(np.float64)
    return result


def _var(values: Channels) -> Var:
    return jt.array(values.astype(np.float32))
