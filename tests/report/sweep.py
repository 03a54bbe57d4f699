"""A sweep made up for the tests of the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from segnext.tracking.images import ValidationImage
from segnext.tracking.run_folder import RunFolder
from segnext.tracking.tracker import Tracker

NAMES = ("road", "side <walk>", "bed ")
PALETTE = np.array([[128, 64, 128], [244, 35, 232], [70, 70, 70]], np.uint8)
MACS = {"tiny": 6_600_000_000, "small": 15_900_000_000}


def make_run(
    root: Path, job: str, *, model: str = "tiny", seed: int = 0, scores: tuple[float, ...] = (0.3, 0.4), **extra: Any
) -> RunFolder:
    """A finished run with one evaluation per score; ``extra`` goes into the configuration."""
    folder = RunFolder.adopt(root / job)
    config = {
        "model": {"name": model},
        "dataset": {"name": "ade"},
        "seed": seed,
        "schedule": {"iterations": 200},
    }
    folder.write_config(yaml.safe_dump(config | extra))
    with Tracker(folder, class_names=NAMES, palette=PALETTE) as track:
        track.summary({"params": 4_200_000, "macs": MACS[model]})
        for number, score in enumerate(scores, 1):
            step = 100 * number
            track.log(step, {"train/loss": 2.0 / number, "train/lr": 6e-5, "train/images_per_second": 30.0 + number})
            classes = {"val/IoU/road": score + 0.1, "val/IoU/side <walk>": score - 0.1, "val/IoU/bed": float("nan")}
            track.log(step, {"val/mIoU": score, "val/mAcc": score, "val/aAcc": score, **classes})
            picture = np.full((24, 48, 3), 120, np.uint8)
            truth = (np.arange(24 * 48).reshape(24, 48) // 16 % 3).astype(np.uint8)
            track.images(step, [ValidationImage("town/a", picture, truth, truth[::-1])])
    return folder


def make_sweep(root: Path) -> Path:
    """tiny with two seeds, small finished, failed, interrupted and just begun."""
    make_run(root, "0", seed=0, scores=(0.30, 0.40))
    make_run(root, "1", seed=1, scores=(0.44, 0.42))
    make_run(root, "2", model="small", seed=0, scores=(0.2, 0.5))
    make_run(root, "3", model="small", seed=1, scores=(0.2,)).write_status("failed", error="loss is not finite")
    make_run(root, "4", model="small", seed=2, scores=()).write_status("interrupted", exit_reason="SIGTERM")
    begun = RunFolder.adopt(root / "5")
    begun.write_config((root / "2" / "config.yaml").read_text())
    begun.write_status("running")
    (root / "0" / "wandb.json").write_text(json.dumps({"id": "x", "url": "https://wandb.example/x"}))
    evaluation = RunFolder.adopt(root / "0" / "evaluation_ms")
    checkpoint = str(root / "0" / "checkpoints" / "best.safetensors")
    evaluation.write_metrics({"mIoU": 0.43, "mode": "ms", "checkpoint": checkpoint})
    evaluation.write_status("finished")
    return root
