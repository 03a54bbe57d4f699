"""The process in which PyTorch is timed: one JSON object a line in, one out. Started by ``TorchTwin``."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TextIO

import torch
import torch.nn.functional as F

from segnext.benchmark.memory import forget_peak, peak_bytes
from segnext.benchmark.torch_segnext import SegNeXt
from segnext.models.variants import get_variant


class Worker:
    """Answers ``{"prepare": …}`` by building a workload and ``{"run": {}}`` by timing it once."""

    step: Callable[[], None]
    device: str

    def prepare(
        self,
        *,
        what: str,
        setting: str,
        model: str,
        num_classes: int,
        batch: int,
        crop: Sequence[int],
        device: str,
        groups: Sequence[tuple[float, float, Sequence[str]]],
    ) -> dict[str, Any]:
        """Builds a training step (``what="train"``) or a prediction.

        Args:
            setting: eager, channels_last, tf32, bf16 (with channels_last) or compile (the same, compiled).
            groups: learning rate, weight decay and names of the parameters.
        """
        self.device = device
        torch.backends.cudnn.benchmark = True
        network = SegNeXt(get_variant(model), num_classes=num_classes).to(device)
        network.train(what == "train")
        images = torch.randn(batch, 3, *crop)
        labels = torch.randint(num_classes, (batch, *crop))
        if setting in ("channels_last", "bf16", "compile"):
            network = network.to(memory_format=torch.channels_last)
            images = images.contiguous(memory_format=torch.channels_last)
        forward = torch.compile(network) if setting == "compile" else network
        half = setting in ("bf16", "compile")

        def logits() -> Any:
            torch.set_float32_matmul_precision("high" if setting == "tf32" else "highest")
            torch.backends.cudnn.allow_tf32 = setting == "tf32"
            with torch.autocast(device, torch.bfloat16, enabled=half):
                output = forward(images.to(device, non_blocking=True)).float()
            return F.interpolate(output, size=tuple(crop), mode="bilinear", align_corners=False)

        def train() -> None:
            loss = F.cross_entropy(logits(), labels.to(device), ignore_index=255, reduction="none").mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

        def infer() -> None:
            with torch.no_grad():
                logits().argmax(1).cpu()

        self.step = infer
        if what == "train":
            named = dict(network.named_parameters())
            optimizer = torch.optim.AdamW(
                [{"params": [named[n] for n in names], "lr": lr, "weight_decay": decay} for lr, decay, names in groups]
            )
            self.step = train
        forget_peak()
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        return {"torch": torch.__version__, "threads": torch.get_num_threads()}

    def run(self) -> dict[str, Any]:
        self._wait()
        start = time.perf_counter()
        self.step()
        self._wait()
        elapsed = time.perf_counter() - start
        peak = torch.cuda.max_memory_allocated() if self.device == "cuda" else peak_bytes()
        return {"seconds": elapsed, "peak_bytes": peak}

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
