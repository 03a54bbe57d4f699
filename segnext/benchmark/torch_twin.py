"""SegNeXt in plain PyTorch: the rival of the benchmark and a second witness of parity. Never imported beside Jittor.

Module names are the official ones, so ``load_state_dict`` takes official checkpoints and our ``.pth`` files.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TextIO

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segnext.benchmark.measuring import forget_peak, peak_bytes
from segnext.models.variants import Variant, get_variant

__all__ = ["SegNeXt"]


class SegNeXt(nn.Module):
    """Normalised images (B,3,H,W) to logits (B, num_classes, ⌈H/8⌉, ⌈W/8⌉)."""

    def __init__(
        self, variant: Variant, *, num_classes: int, drop_path: float | None = None, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.backbone = MSCAN(variant, variant.drop_path if drop_path is None else drop_path)
        self.decode_head = LightHamHead(variant, num_classes, dropout)

    def forward(self, images: Tensor) -> Any:
        return self.decode_head(self.backbone(images)[1:])


class MSCAN(nn.Module):
    def __init__(self, variant: Variant, drop_path: float) -> None:
        super().__init__()
        rates = iter(torch.linspace(0, drop_path, sum(variant.depths)).tolist())
        channels_in = 3
        for i, (channels, depth, ratio) in enumerate(
            zip(variant.embed_dims, variant.depths, variant.mlp_ratios, strict=True), start=1
        ):
            setattr(self, f"patch_embed{i}", Stem(channels) if i == 1 else PatchEmbed(channels_in, channels))
            setattr(self, f"block{i}", nn.ModuleList([Block(channels, ratio, next(rates)) for _ in range(depth)]))
            setattr(self, f"norm{i}", nn.LayerNorm(channels))
            channels_in = channels

    def forward(self, x: Tensor) -> list[Tensor]:
        outputs = []
        for i in range(1, 5):
            x = getattr(self, f"patch_embed{i}")(x)
            for block in getattr(self, f"block{i}"):
                x = block(x)
            x = getattr(self, f"norm{i}")(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).contiguous()
            outputs.append(x)
        return outputs


class Stem(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(
            nn.Conv2d(3, channels // 2, 3, stride=2, padding=1),
            nn.BatchNorm2d(channels // 2),
            nn.GELU(),
            nn.Conv2d(channels // 2, channels, 3, stride=2, padding=1),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Any:
        return self.proj(x)


class PatchEmbed(nn.Module):
    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels_in, channels, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Any:
        return self.norm(self.proj(x))


class Block(nn.Module):
    def __init__(self, channels: int, mlp_ratio: int, drop_path: float) -> None:
        super().__init__()
        self.layer_scale_1 = nn.Parameter(torch.full((channels,), 1e-2))
        self.layer_scale_2 = nn.Parameter(torch.full((channels,), 1e-2))
        self.norm1 = nn.BatchNorm2d(channels)
        self.attn = SpatialAttention(channels)
        self.norm2 = nn.BatchNorm2d(channels)
        self.mlp = MLP(channels, channels * mlp_ratio)
        self.drop_path = drop_path

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop(self.layer_scale_1[:, None, None] * self.attn(self.norm1(x)))
        return x + self.drop(self.layer_scale_2[:, None, None] * self.mlp(self.norm2(x)))

    def drop(self, branch: Tensor) -> Tensor:
        if self.drop_path == 0 or not self.training:
            return branch
        keep = 1 - self.drop_path
        return branch * (torch.rand(len(branch), 1, 1, 1, device=branch.device) < keep) / keep


class SpatialAttention(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.proj_1 = nn.Conv2d(channels, channels, 1)
        self.spatial_gating_unit = SpatialGatingUnit(channels)
        self.proj_2 = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Any:
        return self.proj_2(self.spatial_gating_unit(F.gelu(self.proj_1(x)))) + x


class SpatialGatingUnit(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv0 = depthwise(channels, 5, 5)
        self.conv0_1, self.conv0_2 = depthwise(channels, 1, 7), depthwise(channels, 7, 1)
        self.conv1_1, self.conv1_2 = depthwise(channels, 1, 11), depthwise(channels, 11, 1)
        self.conv2_1, self.conv2_2 = depthwise(channels, 1, 21), depthwise(channels, 21, 1)
        self.conv3 = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Any:
        base = self.conv0(x)
        strips = self.conv0_2(self.conv0_1(base)), self.conv1_2(self.conv1_1(base)), self.conv2_2(self.conv2_1(base))
        return self.conv3(base + strips[0] + strips[1] + strips[2]) * x


class MLP(nn.Module):
    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.dwconv = nn.ModuleDict({"dwconv": depthwise(hidden, 3, 3)})
        self.fc2 = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Any:
        return self.fc2(F.gelu(self.dwconv["dwconv"](self.fc1(x))))


class LightHamHead(nn.Module):
    def __init__(self, variant: Variant, num_classes: int, dropout: float) -> None:
        super().__init__()
        width = variant.decoder_channels
        self.squeeze = conv_norm(sum(variant.embed_dims[1:]), width)
        self.hamburger = Hamburger(width, variant.nmf_rank)
        self.align = conv_norm(width, width)
        self.dropout = nn.Dropout2d(dropout)
        self.conv_seg = nn.Conv2d(width, num_classes, 1)

    def forward(self, stages: list[Tensor]) -> Any:
        size = stages[0].shape[2:]
        resized = [F.interpolate(x, size, mode="bilinear", align_corners=False) for x in stages]
        x = F.relu(self.squeeze(torch.cat(resized, dim=1)))
        return self.conv_seg(self.dropout(F.relu(self.align(self.hamburger(x)))))


class Hamburger(nn.Module):
    def __init__(self, channels: int, rank: int) -> None:
        super().__init__()
        self.ham_in = nn.Sequential()
        self.ham_in.add_module("conv", nn.Conv2d(channels, channels, 1))
        self.ham = NMF2D(rank)
        self.ham_out = conv_norm(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.ham_out(self.ham(F.relu(self.ham_in(x)))))


class NMF2D(nn.Module):
    def __init__(self, rank: int) -> None:
        super().__init__()
        self.rank = rank

    def draw_bases(self, batch: int, dim: int, rank: int) -> Tensor:
        return F.normalize(torch.rand(batch, dim, rank), dim=1)

    def forward(self, x: Tensor) -> Tensor:
        data = x.flatten(2)
        bases = self.draw_bases(len(x), x.shape[1], self.rank).to(data)
        coefficients = F.softmax(data.mT @ bases, dim=-1)
        for _ in range(6 if self.training else 7):
            coefficients = self.update_coefficients(data, bases, coefficients)
            bases = bases * (data @ coefficients) / (bases @ (coefficients.mT @ coefficients) + 1e-6)
        coefficients = self.update_coefficients(data, bases, coefficients)
        return (bases @ coefficients.mT).view_as(x)

    @staticmethod
    def update_coefficients(data: Tensor, bases: Tensor, coefficients: Tensor) -> Tensor:
        return coefficients * (data.mT @ bases) / (coefficients @ (bases.mT @ bases) + 1e-6)


def depthwise(channels: int, kh: int, kw: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, (kh, kw), padding=(kh // 2, kw // 2), groups=channels)


def conv_norm(channels_in: int, channels: int) -> nn.Sequential:
    layers = nn.Sequential()
    layers.add_module("conv", nn.Conv2d(channels_in, channels, 1, bias=False))
    layers.add_module("gn", nn.GroupNorm(32, channels))
    return layers


class Worker:
    """Answers ``{"prepare": …}`` by building a workload and ``{"run": {}}`` by timing it once."""

    step: Callable[[], Any]
    device: str

    def prepare(
        self, *, what: str, setting: str, model: str, num_classes: int, device: str, **workload: Any
    ) -> dict[str, Any]:
        """Builds a training step (``what="train"``), a prediction, its logits alone or an evaluation.

        Args:
            setting: eager, channels_last, tf32, bf16 (with channels_last), compile (the same, compiled) or
                compile_fp32 (channels_last, compiled).
            workload: see ``_training``, ``_prediction`` and ``torch_evaluation.Evaluation``.
        """
        self.device = device
        torch.backends.cudnn.benchmark = True
        network = SegNeXt(get_variant(model), num_classes=num_classes).to(device)
        network.train(what == "train")
        layout = torch.contiguous_format if setting in ("eager", "tf32") else torch.channels_last
        network = network.to(memory_format=layout)
        forward = torch.compile(network) if setting.startswith("compile") else network
        half = setting in ("bf16", "compile")

        def logits(images: Tensor) -> Tensor:
            torch.set_float32_matmul_precision("high" if setting == "tf32" else "highest")
            torch.backends.cudnn.allow_tf32 = setting == "tf32"
            images = images.to(device, non_blocking=True).contiguous(memory_format=layout)
            with torch.autocast(device, torch.bfloat16, enabled=half):
                output: Tensor = forward(images).float()
            return output

        def enlarged(images: Tensor) -> Tensor:
            return F.interpolate(logits(images), size=images.shape[2:], mode="bilinear", align_corners=False)

        if what == "evaluate":
            from segnext.benchmark.torch_evaluation import Evaluation  # needs OpenCV and Pillow

            self.step = Evaluation(enlarged, device=device, num_classes=num_classes, **workload)
        elif what == "train":
            self.step = self._training(network, enlarged, num_classes, layout, **workload)
        else:
            result = logits if what == "logits" else lambda images: enlarged(images).argmax(1)
            self.step = self._prediction(result, layout, **workload)
        forget_peak()
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        return {"torch": torch.__version__, "threads": torch.get_num_threads()}

    def _training(
        self,
        network: nn.Module,
        logits: Callable[[Tensor], Tensor],
        num_classes: int,
        layout: torch.memory_format,
        *,
        batch: int,
        crop: Sequence[int],
        groups: Sequence[tuple[float, float, Sequence[str]]],
    ) -> Callable[[], None]:
        """``groups``: learning rate, weight decay and names of the parameters."""
        named = dict(network.named_parameters())
        optimizer = torch.optim.AdamW(
            [{"params": [named[n] for n in names], "lr": lr, "weight_decay": decay} for lr, decay, names in groups]
        )
        images = torch.randn(batch, 3, *crop).contiguous(memory_format=layout)
        labels = torch.randint(num_classes, (batch, *crop))

        def train() -> None:
            target = labels.to(self.device)
            loss = F.cross_entropy(logits(images), target, ignore_index=255, reduction="none").mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

        return train

    @staticmethod
    def _prediction(
        result: Callable[[Tensor], Tensor], layout: torch.memory_format, *, batch: int, crop: Sequence[int]
    ) -> Callable[[], None]:
        images = torch.randn(batch, 3, *crop).contiguous(memory_format=layout)

        def infer() -> None:
            with torch.no_grad():
                result(images).cpu()

        return infer

    def run(self) -> dict[str, Any]:
        self._wait()
        start = time.perf_counter()
        result = self.step()
        self._wait()
        elapsed = time.perf_counter() - start
        peak = torch.cuda.max_memory_allocated() if self.device == "cuda" else peak_bytes()
        return {"seconds": elapsed, "peak_bytes": peak, "result": result}

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


def serve(requests: TextIO, answers: TextIO) -> None:
    worker = Worker()
    for line in requests:
        ((command, arguments),) = json.loads(line).items()
        try:
            answer = getattr(worker, command)(**arguments)
        except Exception as error:  # told to the parent, which decides
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    # What libraries print goes to the screen's error channel; the answers have a channel of their own.
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(sys.stdin, channel)
