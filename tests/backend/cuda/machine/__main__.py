"""Counts what a GPU is asked for: `python -m tests.backend.cuda.machine tiny:bf16 large:fp32:checkpointing …`.

A steady training step of 16 crops of 512² and the label map of one image of 512×683, 150 classes; nothing is computed.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.backend.cuda.machine import Machine, Recording

_WORK = """
from segnext.models.settings import ModelSettings
from tests.backend.cuda.machine.workloads import predict_images, train_steps
size, precision, checkpointing = sys.argv[1:]
train_steps(ModelSettings(size, gradient_checkpointing=bool(checkpointing)), precision, batch=16, side=512)
jt.gc()
predict_images(size, precision, height=512, width=683)
"""


def main(cases: list[str]) -> int:
    for case in cases:
        size, precision, *checkpointing = case.split(":")
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "log"
            done = Machine.shared().run(_WORK, size, precision, "".join(checkpointing), computes=False, record=log)
            if done.returncode:
                print(f"== {case} failed\n{done.stdout[-1000:]}{done.stderr[-4000:]}")
                return 1
            parts = Recording.read(log)
        for name in ("step 4", "image 3"):
            print(f"== {case}, {name}\n{parts[name].summary()}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
