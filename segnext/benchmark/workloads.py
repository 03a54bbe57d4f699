"""What is timed on Jittor: a training step, a forward pass, and the batches of the loader."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from segnext import backend
from segnext.backend import jt
from segnext.errors import BackendError
from segnext.evaluation.arrays import JittorArrays
from segnext.files import package_environment
from segnext.kernels.labels import View, labels
from segnext.models.segnext import create_model
from segnext.training.loss import segmentation_loss
from segnext.training.optimizer import AdamW, parameter_groups

__all__ = ["Inference", "Logits", "Pipeline", "TrainingStep", "random_batch", "seconds_to_first_step"]


def random_batch(batch: int, crop: tuple[int, int], num_classes: int) -> tuple[Any, Any]:
    """Images (B,3,h,w) float32 and labels (B,h,w) int32: the same for every contestant."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((batch, 3, *crop), dtype=np.float32)
    return images, rng.integers(0, num_classes, (batch, *crop), dtype=np.int32)


class TrainingStep:
    """One iteration as in ``runners.train``: host to device, forward, loss, backward, AdamW."""

    def __init__(self, model: Any, optimizer: Any, images: Any, labels: Any) -> None:
        self.model, self.optimizer, self.images, self.labels = model, optimizer, images, labels
        self.iteration = 0

    def __call__(self) -> float:
        """Returns the seconds that the step took."""
        self.model.train()
        jt.sync_all(True)
        start = time.perf_counter()
        self.model.seed_noise([(0, self.iteration, index) for index in range(len(self.images))])
        loss = segmentation_loss(self.model(jt.array(self.images)), jt.array(self.labels))
        self.optimizer.backward(loss)
        self.optimizer.all_reduce_gradients()
        self.optimizer.step(6e-5)
        jt.sync_all(True)
        self.iteration += 1
        return time.perf_counter() - start


class Logits:
    """Logits of a batch, on the host."""

    def __init__(self, model: Any, images: Any) -> None:
        model.eval()
        self.model, self.images = JittorArrays().for_inference(model), images

    def __call__(self) -> float:
        """Returns the seconds that the batch took."""
        jt.sync_all(True)
        start = time.perf_counter()
        with jt.no_grad():
            self.finish(self.model(jt.array(self.images)))
        return time.perf_counter() - start

    def finish(self, logits: Any) -> None:
        """Fetches them."""
        logits.numpy()


class Inference(Logits):
    """Logits of a batch, and their best class at full resolution."""

    def finish(self, logits: Any) -> None:
        """Finds the labels as predict does."""
        size = self.images.shape[2:]
        for number in range(len(self.images)):
            labels([View([logits[number]], [(0, 0)], size, size)], size)


class Pipeline:
    """The next training batch, read, augmented and normalised; the model does nothing in the meantime."""

    def __init__(self, batches: Iterator[Any]) -> None:
        self.batches = batches

    def __call__(self) -> float:
        """Returns the seconds until the batch was there."""
        start = time.perf_counter()
        next(self.batches)
        return time.perf_counter() - start


def seconds_to_first_step(
    model: str, *, num_classes: int, batch: int, crop: tuple[int, int], device: str, cold: bool
) -> float:
    """Wall time in seconds; ``cold`` starts with an empty compile cache (minutes), else the user's own is used.

    Raises:
        BackendError: the process failed.
    """
    options = json.dumps(
        {"model": model, "num_classes": num_classes, "batch": batch, "crop": list(crop), "device": device}
    )
    with tempfile.TemporaryDirectory() as empty:
        environment = package_environment()
        if cold:
            environment.pop("JITTOR_HOME", None)
            environment |= {"HOME": empty, "SEGNEXT_HOME": os.path.join(empty, "segnext")}
        start = time.perf_counter()
        child = subprocess.run(
            [sys.executable, "-m", __name__, options], env=environment, stderr=subprocess.PIPE, text=True
        )
        elapsed = time.perf_counter() - start
    if child.returncode != 0:
        last = (child.stderr.strip().splitlines() or ["no message"])[-1]
        raise BackendError(f"the process that measures the start ended with {child.returncode}: {last}")
    return elapsed


def _first_step(model: str, num_classes: int, batch: int, crop: list[int], device: str) -> None:
    backend.start(device, log=backend.default_log())
    network = create_model(model, num_classes=num_classes)
    parameters = network.parameters_to_train()
    optimizer = AdamW(parameters, parameter_groups(parameters))
    TrainingStep(network, optimizer, *random_batch(batch, (crop[0], crop[1]), num_classes))()


if __name__ == "__main__":
    _first_step(**json.loads(sys.argv[1]))
