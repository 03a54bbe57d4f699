"""SegNeXt in plain NumPy, float64: the independent reference of the model's tests.

Written from the description of the official PyTorch implementation, not from our Jittor code. It takes a dict of
tensors by official name and needs nothing else: depths and widths follow from names and shapes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Tensors = Mapping[str, NDArray[np.floating]]

EPS = 1e-5
_erf = np.vectorize(math.erf, otypes=[np.float64])


class NumpySegNeXt:
    """One forward pass; ``statistics`` then holds what training mode leaves in the running statistics."""

    def __init__(self, tensors: Tensors, *, training: bool = False) -> None:
        self.tensors = {name: np.asarray(tensor, np.float64) for name, tensor in tensors.items()}
        self.training = training
        self.statistics: dict[str, Array] = {}

    def logits(self, images: NDArray[np.floating], bases: NDArray[np.floating]) -> Array:
        """(B,3,H,W) and bases (B,D,R) to logits (B,K,⌈H/8⌉,⌈W/8⌉), no dropout, no drop path."""
        return self.head(self.backbone(np.asarray(images, np.float64))[1:], np.asarray(bases, np.float64))

    def backbone(self, x: Array) -> list[Array]:
        stages = []
        for stage in range(1, 5):
            embed = f"backbone.patch_embed{stage}"
            if stage == 1:
                x = gelu(self.batch_norm(self.conv(x, f"{embed}.proj.0", stride=2), f"{embed}.proj.1"))
                x = self.batch_norm(self.conv(x, f"{embed}.proj.3", stride=2), f"{embed}.proj.4")
            else:
                x = self.batch_norm(self.conv(x, f"{embed}.proj", stride=2), f"{embed}.norm")
            for block in self.blocks(stage):
                x = x + self.attention(self.batch_norm(x, f"{block}.norm1"), block) * self.scale(
                    f"{block}.layer_scale_1"
                )
                x = x + self.mlp(self.batch_norm(x, f"{block}.norm2"), block) * self.scale(f"{block}.layer_scale_2")
            x = self.layer_norm(x, f"backbone.norm{stage}")
            stages.append(x)
        return stages

    def blocks(self, stage: int) -> Iterator[str]:
        block = 0
        while f"backbone.block{stage}.{block}.layer_scale_1" in self.tensors:
            yield f"backbone.block{stage}.{block}"
            block += 1

    def attention(self, z: Array, block: str) -> Array:
        u = gelu(self.conv(z, f"{block}.attn.proj_1"))
        gate = f"{block}.attn.spatial_gating_unit"
        a = self.depthwise(u, f"{gate}.conv0")
        strips = [self.depthwise(self.depthwise(a, f"{gate}.conv{i}_1"), f"{gate}.conv{i}_2") for i in range(3)]
        gated = self.conv(a + strips[0] + strips[1] + strips[2], f"{gate}.conv3") * u
        return self.conv(gated, f"{block}.attn.proj_2") + z

    def mlp(self, z: Array, block: str) -> Array:
        hidden = self.depthwise(self.conv(z, f"{block}.mlp.fc1"), f"{block}.mlp.dwconv.dwconv")
        return self.conv(gelu(hidden), f"{block}.mlp.fc2")

    def head(self, stages: list[Array], bases: Array) -> Array:
        size = stages[0].shape[2:]
        x = np.concatenate([bilinear(stage, size) for stage in stages], axis=1)
        x = relu(self.group_norm(self.conv(x, "decode_head.squeeze.conv"), "decode_head.squeeze.gn"))
        ham = "decode_head.hamburger"
        low_rank = self.nmf(relu(self.conv(x, f"{ham}.ham_in.conv")), bases)
        x = relu(x + self.group_norm(self.conv(low_rank, f"{ham}.ham_out.conv"), f"{ham}.ham_out.gn"))
        x = relu(self.group_norm(self.conv(x, "decode_head.align.conv"), "decode_head.align.gn"))
        return self.conv(x, "decode_head.conv_seg")

    def nmf(self, x: Array, bases: Array) -> Array:
        b, d, h, w = x.shape
        data = x.reshape(b, d, h * w)
        data_t = data.transpose(0, 2, 1)
        coef = softmax(data_t @ bases)
        for _ in range(6 if self.training else 7):
            coef = coef * (data_t @ bases) / (coef @ (bases.transpose(0, 2, 1) @ bases) + 1e-6)
            bases = bases * (data @ coef) / (bases @ (coef.transpose(0, 2, 1) @ coef) + 1e-6)
        coef = coef * (data_t @ bases) / (coef @ (bases.transpose(0, 2, 1) @ bases) + 1e-6)
        return (bases @ coef.transpose(0, 2, 1)).reshape(x.shape)

    def conv(self, x: Array, name: str, stride: int = 1) -> Array:
        """1×1 with stride 1, or 3×3 with stride 2 and padding 1."""
        weight = self.tensors[f"{name}.weight"]
        k = weight.shape[2]
        h, w = (-(-side // stride) for side in x.shape[2:])
        padded = pad(x, k // 2, k // 2)
        y: Array = np.zeros((x.shape[0], weight.shape[0], h, w))
        for i in range(k):
            for j in range(k):
                shifted = padded[:, :, i : i + stride * (h - 1) + 1 : stride, j : j + stride * (w - 1) + 1 : stride]
                y += np.einsum("oc,bchw->bohw", weight[:, :, i, j], shifted, optimize=True)
        return y + self.scale(f"{name}.bias") if f"{name}.bias" in self.tensors else y

    def depthwise(self, x: Array, name: str) -> Array:
        weight = self.tensors[f"{name}.weight"]
        kh, kw = weight.shape[2:]
        h, w = x.shape[2:]
        padded = pad(x, kh // 2, kw // 2)
        y = np.zeros_like(x)
        for i in range(kh):
            for j in range(kw):
                y += padded[:, :, i : i + h, j : j + w] * weight[:, :, i, j].reshape(1, -1, 1, 1)
        return y + self.scale(f"{name}.bias")

    def batch_norm(self, x: Array, name: str) -> Array:
        mean, var = self.tensors[f"{name}.running_mean"], self.tensors[f"{name}.running_var"]
        if self.training:
            batch_mean, batch_var = x.mean((0, 2, 3)), x.var((0, 2, 3))
            count = x.size // x.shape[1]
            self.statistics[f"{name}.running_mean"] = 0.9 * mean + 0.1 * batch_mean
            self.statistics[f"{name}.running_var"] = 0.9 * var + 0.1 * batch_var * count / (count - 1)
            mean, var = batch_mean, batch_var
        return self.affine((x - channels(mean)) / np.sqrt(channels(var) + EPS), name)

    def layer_norm(self, x: Array, name: str) -> Array:
        return self.affine((x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + EPS), name)

    def group_norm(self, x: Array, name: str) -> Array:
        grouped = x.reshape(x.shape[0], 32, -1)
        normal = (grouped - grouped.mean(2, keepdims=True)) / np.sqrt(grouped.var(2, keepdims=True) + EPS)
        return self.affine(normal.reshape(x.shape), name)

    def affine(self, x: Array, name: str) -> Array:
        return x * self.scale(f"{name}.weight") + self.scale(f"{name}.bias")

    def scale(self, name: str) -> Array:
        return channels(self.tensors[name])


def loss(logits: Array, labels: NDArray[np.integer]) -> float:
    """Cross-entropy of the logits, resized to (B,H,W) labels; 255 counts as 0; mean over all pixels."""
    resized = bilinear(logits, labels.shape[1:])
    shifted = resized - resized.max(1, keepdims=True)
    log_probability = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    valid = labels != 255
    chosen = np.take_along_axis(log_probability, np.where(valid, labels, 0)[:, None], axis=1)[:, 0]
    return float(-(chosen * valid).sum() / labels.size)


def bilinear_matrix(source: int, target: int) -> Array:
    """(target, source): the weights of a 1-D bilinear resize with align_corners=False."""
    matrix = np.zeros((target, source))
    for i in range(target):
        position = max((i + 0.5) * source / target - 0.5, 0.0)
        low = min(int(position), source - 1)
        high = min(low + 1, source - 1)
        matrix[i, low] += 1 - (position - low)
        matrix[i, high] += position - low
    return matrix


def bilinear(x: Array, size: tuple[int, ...]) -> Array:
    rows, columns = (bilinear_matrix(s, t) for s, t in zip(x.shape[2:], size, strict=True))
    return rows @ x @ columns.T


def channels(vector: Array) -> Array:
    return vector.reshape(1, -1, 1, 1)


def pad(x: Array, rows: int, columns: int) -> Array:
    return np.pad(x, ((0, 0), (0, 0), (rows, rows), (columns, columns)))


def gelu(x: Array) -> Array:
    return 0.5 * x * (1 + _erf(x / math.sqrt(2)))


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def softmax(x: Array) -> Array:
    exponentials = np.exp(x - x.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)
