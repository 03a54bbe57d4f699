"""How long a user waits: from starting Python to the end of the first training step, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time

from segnext.benchmark.torch_python import package_environment
from segnext.errors import BackendError

__all__ = ["seconds_to_first_step"]


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
    from segnext import backend

    backend.start(device)
    from segnext.benchmark.workloads import TrainingStep, random_batch
    from segnext.models.segnext import create_model
    from segnext.training.optimizer import AdamW, parameter_groups

    network = create_model(model, num_classes=num_classes)
    parameters = network.parameters_to_train()
    optimizer = AdamW(parameters, parameter_groups(parameters))
    TrainingStep(network, optimizer, *random_batch(batch, (crop[0], crop[1]), num_classes))()


if __name__ == "__main__":
    _first_step(**json.loads(sys.argv[1]))
