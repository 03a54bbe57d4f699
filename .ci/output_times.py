"""When each verb speaks: seconds to the first output and the longest silence, piped and on a terminal.

    python .ci/output_times.py [FOLDER]

runs every verb on drawn shapes in FOLDER (by default a new one below outputs/), first once to compile what is missing,
then measured. Prints the table of docs/performance.md; ends with 1 where a limit is missed.
"""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
FIRST, SILENCE = 2.0, 10.0  # seconds
SMALL = ("model=tiny", "dataset=shapes", "device=cpu")


@dataclass(frozen=True)
class Times:
    """Seconds of one command."""

    first: float
    silence: float
    whole: float
    code: int


def commands(folder: Path) -> dict[str, list[str]]:
    """What is measured, by its name in the table; the run of `train` is what the others work with."""
    run = f"checkpoint={folder / 'run'}"
    train = ["train", *SMALL, "schedule=demo", "schedule.iterations=40", "schedule.eval_interval=20", "tracking=none"]
    images, cityscapes = folder / "images", folder / "cityscapes"
    return {
        "train": [*train, f"run_folder={folder / 'run'}"],
        "train -m": ["train", "-m", *train[1:], "seed=0,1", f"output_dir={folder / 'sweep'}"],
        "evaluate": ["evaluate", run],
        "evaluate tta=true": ["evaluate", run, "tta=true"],
        "predict": ["predict", run, f"input={images}"],
        "export": ["export", run, f"output={folder / 'model.onnx'}"],
        "convert": ["convert", f"input={folder / 'run'}", f"output={folder / 'tiny.pth'}"],
        "report": ["report", str(folder)],
        "profile": ["profile", "-m", "model=tiny,small,base,large", "dataset=ade,cityscapes"],
        "benchmark": ["benchmark", *SMALL, "what=[train,inference]"],
        "doctor": ["doctor", "dataset=shapes", "device=cpu"],
        "prepare": ["prepare", "dataset=cityscapes", f"dataset.root={cityscapes}", "overwrite=true"],
        "--help": ["train", "--help"],
    }


def draw_inputs(folder: Path) -> None:
    """Images to predict, and labels to prepare."""
    draw = np.random.default_rng(0)
    for number in range(8):
        city = folder / "cityscapes/{}/val/ulm"
        for kind, name, shape in (
            ("leftImg8bit", "leftImg8bit", (512, 1024, 3)), ("gtFine", "gtFine_labelIds", (512, 1024)),
        ):  # fmt: skip
            file = Path(str(city).format(kind)) / f"ulm_{number:06d}_000019_{name}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw.integers(0, 30, shape).astype(np.uint8)).save(file)
        file = folder / f"images/{number}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (480, 640, 3)).astype(np.uint8)).save(file)


def measure(command: list[str], *, terminal: bool) -> Times:
    """Runs a verb and notes when something of it can be read."""
    reader, writer = pty.openpty() if terminal else os.pipe()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "80", "TERM": "xterm"}
    start = last = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "runners"), *command], stdout=writer, stderr=writer, env=environment
    )
    os.close(writer)
    first, silence = 0.0, 0.0
    while True:
        select.select([reader], [], [])
        try:
            text = os.read(reader, 1 << 16)
        except OSError:  # the end, on a terminal
            text = b""
        now = time.monotonic()
        silence = max(silence, now - last)
        if not text:
            break
        first, last = first or now - start, now
    os.close(reader)
    return Times(first, silence, now - start, process.wait())


def main() -> int:
    """Measures all commands; the exit code."""
    if len(sys.argv) > 1:
        folder = Path(sys.argv[1]).absolute()
    else:
        (ROOT / "outputs").mkdir(exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="times-", dir=ROOT / "outputs"))
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    draw_inputs(folder)
    for command in commands(folder).values():
        measure(command, terminal=False)
    missed = False
    print("| command | piped: first, s | silence, s | terminal: first, s | silence, s | whole, s |")
    print("|---|--:|--:|--:|--:|--:|")
    for name, command in commands(folder).items():
        if name in ("train", "train -m"):  # a finished run does nothing
            command = [word for word in command if not word.startswith(("run_folder=", "output_dir="))]
        piped, shown = (measure(command, terminal=terminal) for terminal in (False, True))
        figures = (piped.first, piped.silence, shown.first, shown.silence, piped.whole)
        print(f"| `{name}` | " + " | ".join(f"{value:.1f}" for value in figures) + " |", flush=True)
        for times in (piped, shown):
            if times.code or times.first > FIRST or times.silence > SILENCE:
                missed = True
                print(f"{name}: {times}", file=sys.stderr)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
