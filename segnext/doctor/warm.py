"""Compiles ahead what training, evaluation and prediction of a model need, by doing each of them once on drawn shapes.

For container images and for clusters whose nodes share a cache: the first user waits for nothing.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from segnext.errors import BackendError
from segnext.files import runner_command
from segnext.lazy import LazyModule

__all__ = ["warm_cache", "warm_commands"]

_pillow: Any = LazyModule("PIL.Image")  # the doctor starts without it


def warm_commands(model: str, crop: tuple[int, int], *, device: str, run: Path) -> list[list[str]]:
    """The commands that between them use every operator; they leave a run in the folder ``run``."""
    height, width = crop
    size = f"[{height},{width}]"
    training = [
        f"model={model}",
        "dataset=shapes",
        f"dataset.image_size={size}",
        f"dataset.crop={size}",
        f"dataset.scale={size}",
        "dataset.train_images=4",
        "dataset.val_images=1",
        "schedule=demo",
        "schedule.iterations=2",
        "schedule.batch_size=2",
        "schedule.warmup_iterations=1",
        "schedule.eval_interval=2",
        f"device={device}",
        f"run_folder={run}",
    ]
    given = [f"checkpoint={run}", f"device={device}"]
    predicting = [*given, f"input={run / 'input.png'}", f"output_dir={run.parent / 'predicted'}"]
    evaluating = [*given, f"output_dir={run.parent / 'evaluated'}"]
    verbs = (("train", training), ("evaluate", evaluating), ("predict", predicting))
    return [[*runner_command(verb), *given] for verb, given in verbs]


def warm_cache(
    model: str, crop: tuple[int, int], *, device: str = "auto", announce: Callable[[str], None] | None = None
) -> None:
    """Fills the compile cache for ``model`` (tiny, small, base, large) and crops of (height, width) pixels.

    Raises:
        BackendError: one of the commands failed.
    """
    environment = {**os.environ, "WANDB_MODE": "disabled"}
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        for command in warm_commands(model, crop, device=device, run=run):
            if "predict" in command:
                _draw_image(run / "input.png", crop)
            _run(command, environment, announce)


def _run(command: Sequence[str], environment: dict[str, str], announce: Callable[[str], None] | None) -> None:
    child = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True
    )
    assert child.stdout is not None
    last = ""
    for line in child.stdout:
        last = line.strip() or last
        if announce is not None:
            announce(line.rstrip())
    if child.wait() != 0:
        raise BackendError(f"{command[2]} of the warm-up ended with {child.returncode}: {last}")


def _draw_image(path: Path, crop: tuple[int, int]) -> None:
    _pillow.linear_gradient("L").resize((crop[1], crop[0])).convert("RGB").save(path)
