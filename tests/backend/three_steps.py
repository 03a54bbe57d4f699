"""Three training steps of a stem and a classifier, for tests of the compiler.

``python -m tests.backend.three_steps`` takes operators from the cache that all share, with ``FOLDER LAUNCHER`` they are
compiled anew into FOLDER by LAUNCHER. Prints the losses and all parameters.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from segnext import backend
from segnext.models.layers import Conv
from segnext.models.mscan import Stem
from segnext.training.loss import segmentation_loss
from segnext.training.optimizer import AdamW, parameter_groups
from tests.backend.operators import compile_into


def main(folder: str = "", launcher: str = "") -> None:
    jt = compile_into(Path(folder)) if folder else backend.start("cpu")
    if launcher:
        jt.flags.cc_path = launcher
        jt.flags.python_path = str(Path(launcher).with_name("python"))
    rng = np.random.default_rng(0)
    model = jt.nn.Sequential(Stem(8), Conv(8, 5, 1))
    parameters = {name: var for name, var in model.named_parameters() if "running" not in name}
    for var in parameters.values():
        var.assign(jt.array(rng.normal(0.0, 0.3, var.shape).astype(np.float32)))
    images = rng.standard_normal((2, 3, 16, 16), dtype=np.float32)
    labels = rng.integers(0, 5, (2, 16, 16), dtype=np.int32)
    optimizer = AdamW(parameters, parameter_groups(parameters))
    for _ in range(3):
        loss = segmentation_loss(model(jt.array(images)), jt.array(labels))
        optimizer.backward(loss)
        optimizer.step(1e-2)
        print(loss.item().hex())
    for name, var in parameters.items():
        print(name, var.numpy().tobytes().hex())


if __name__ == "__main__":
    main(*sys.argv[1:])
