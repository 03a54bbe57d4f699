"""Runs the PyTorch twin over arrays of a file; started by test_torch_twin.py in a process of its own."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from segnext.benchmark.torch_twin import SegNeXt
from segnext.models.variants import get_variant


def main(source: str, target: str, options: str) -> None:
    """``source`` holds images, labels, bases and the tensors by name; ``target`` receives logits and gradients."""
    settings: dict[str, Any] = json.loads(options)
    arrays = {name: torch.from_numpy(array) for name, array in np.load(source).items()}
    images, labels, bases = (arrays.pop(name) for name in ("images", "labels", "bases"))
    model = SegNeXt(get_variant(settings["model"]), num_classes=settings["num_classes"], drop_path=0, dropout=0)
    missing, unexpected = model.load_state_dict(arrays, strict=False)
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)
    model.decode_head.hamburger.ham.draw_bases = lambda *_: bases
    model.train(settings["training"])
    logits = model(images)
    result = {"logits": logits.detach().numpy()}
    if settings["training"]:
        resized = F.interpolate(logits, labels.shape[1:], mode="bilinear", align_corners=False)
        F.cross_entropy(resized, labels.long(), ignore_index=255, reduction="none").mean().backward()
        result |= {name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}
    np.savez(target, **result)


if __name__ == "__main__":
    main(*sys.argv[1:])
