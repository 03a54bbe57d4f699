"""A run tracked by W&B, in a process of its own: `python tracked_run.py FOLDER FIRST LAST`; prints seconds spent."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path

import numpy as np

from segnext.tracking.run_folder import RunFolder
from segnext.tracking.tracker import Tracker
from segnext.tracking.wandb_sink import WandbSink


def main(path: str, first: int, last: int) -> None:
    logging.getLogger("wandb").setLevel(logging.CRITICAL)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    folder = RunFolder.adopt(Path(path))
    sink = WandbSink(folder, project="p", config={}, class_names=["a"], init_timeout=2.0, finish_timeout=2.0)
    palette = np.zeros((1, 3), np.uint8)
    begin = time.monotonic()
    with Tracker(folder, class_names=["a"], palette=palette, sinks=[sink], first_iteration=first) as track:
        for iteration in range(first + 1, last + 1):
            track.log(iteration, {"train/loss": 1.0})
        logged = time.monotonic() - begin
    print(logged, time.monotonic() - begin)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
