"""Prints the table of docs/parity.md: `python -m tests.models.parity_table`.

Errors are the largest difference of any logit over the largest logit. PyTorch is compared where `torch_interpreter`
finds it, the golden figures where ../shared/golden is.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segnext import backend
from segnext.benchmark.torch_process import torch_interpreter
from segnext.errors import ConfigError
from segnext.files import package_environment
from segnext.models.segnext import create_model
from segnext.models.variants import VARIANTS
from tests.models.drawn import drawn_bases, drawn_images, drawn_labels, golden, prepare
from tests.models.numpy_segnext import NumpySegNeXt

jt = backend.start(announce=print)

CLASSES = 19
SHAPES = [(2, 3, 32, 32), (1, 3, 33, 47), (1, 3, 64, 40), (1, 3, 97, 65)]
GOLDEN = {"tiny": "tiny_150_128x128", "small": "small_19_96x160"}


def _error(found: Any, expected: Any) -> str:
    return f"{np.abs(found - expected).max() / np.abs(expected).max():.1e}"


def _ours(model: Any, images: Any) -> Any:
    model.eval()
    with jt.no_grad():
        return model(jt.array(images)).numpy()


def _twin(name: str, tensors: dict[str, Any], images: Any, bases: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.npz"), Path(folder, "out.npz")
        labels = drawn_labels(images.shape, CLASSES, seed=3)
        np.savez(source, images=images, labels=labels, bases=bases, **tensors)
        options = json.dumps({"model": name, "num_classes": CLASSES, "training": False})
        command = [torch_interpreter(), "-m", "tests.models.torch_pass", str(source), str(target), options]
        subprocess.run(command, check=True, env=package_environment())
        return np.load(target)["logits"]


def _golden(name: str) -> str:
    try:
        arrays, meta = golden(GOLDEN[name])
    except (KeyError, pytest.skip.Exception):
        return "–"
    model = create_model(name, num_classes=meta["classes"])
    prepare(model)
    return _error(_ours(model, drawn_images(tuple(meta["shape"]), meta["seed"])), arrays["logits"])


def main() -> None:
    print("| model | input | NumPy, float64 | PyTorch, float32 | golden |\n|---|---|---|---|---|")
    for name, variant in VARIANTS.items():
        model = create_model(name, num_classes=CLASSES)
        tensors = prepare(model)
        for shape in SHAPES:
            images = drawn_images(shape, seed=3)
            bases = drawn_bases(shape[0], variant.decoder_channels, variant.nmf_rank)
            ours = _ours(model, images)
            errors = [_error(ours, NumpySegNeXt(tensors).logits(images, bases))]
            try:
                errors.append(_error(ours, _twin(name, tensors, images, bases)))
            except ConfigError:
                errors.append("–")
            size = "×".join(str(n) for n in shape)
            print(f"| {name} | {size} | {errors[0]} | {errors[1]} | |", flush=True)
        print(f"| {name} | golden file | | | {_golden(name)} |", flush=True)


if __name__ == "__main__":
    main()
