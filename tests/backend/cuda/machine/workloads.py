"""What runs on the machine: training steps by the project's own loop, and predictions; each ends with a mark."""

from __future__ import annotations

import ctypes
import os
from types import SimpleNamespace

import numpy as np

from segnext.data.settings import InferenceSettings
from segnext.evaluation.inference import SegmentationPredictor, evaluation_mode
from segnext.models.segnext import create_model
from segnext.models.settings import ModelSettings
from segnext.training.loop import train
from segnext.training.loss import LossScale
from segnext.training.optimizer import create_optimizer
from segnext.training.schedule import ScheduleSettings

__all__ = ["mark", "predict_images", "train_steps"]

_NUM_CLASSES = 150


def mark(name: str) -> None:
    """Ends a part of what is recorded."""
    ctypes.CDLL(os.environ["CUDA_MACHINE_LIBRARY"]).machine_mark(name.encode())


def train_steps(model: ModelSettings | str, precision: str, *, batch: int, side: int, steps: int = 4) -> None:
    """Trains on black images without a log, an evaluation or a checkpoint; ``step N`` is marked after step N."""
    schedule = ScheduleSettings(iterations=10**9, batch_size=batch, log_interval=10**9)
    schedule.eval_interval = schedule.checkpoint_interval = 10**9
    network = create_model(model, num_classes=_NUM_CLASSES, precision=precision)
    batches = [
        SimpleNamespace(
            images=np.zeros((batch, 3, side, side), np.float32),
            labels=np.zeros((batch, side, side), np.uint8),
            indices=range(batch),
            iteration=iteration,
        )
        for iteration in range(steps)
    ]
    train(
        network,
        create_optimizer(network, schedule),
        batches,
        schedule=schedule,
        seed=0,
        log=lambda *_: None,
        evaluate=lambda *_: None,
        save=lambda _: None,
        loss_scale=LossScale() if precision == "fp16" else None,
        on_step=lambda done: mark(f"step {done}"),
    )


def predict_images(model: ModelSettings | str, precision: str, *, height: int, width: int, images: int = 3) -> None:
    """Labels black images as an evaluation does; ``image N`` is marked after image N."""
    network = create_model(model, num_classes=_NUM_CLASSES, precision=precision)
    settings = InferenceSettings(scale=(width, height), size_divisor=1)
    with evaluation_mode(network):
        predictor = SegmentationPredictor(network, settings)
        for image in range(1, images + 1):
            predictor.predict(np.zeros((height, width, 3), np.uint8), f"image {image}")
            mark(f"image {image}")
