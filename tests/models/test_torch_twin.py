"""The same network in PyTorch agrees, forward and backward. PyTorch runs in a process of its own."""

from __future__ import annotations

import json
import subprocess
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
from segnext.training.loss import segmentation_loss
from tests.models.drawn import drawn_bases, drawn_images, drawn_labels, prepare

jt = backend.start()

pytestmark = pytest.mark.torch

CLASSES = 19


@pytest.fixture(scope="module")
def interpreter() -> str:
    try:
        return torch_interpreter()
    except ConfigError as error:
        pytest.skip(str(error))


def _both(
    name: str, shape: tuple[int, ...], *, training: bool, python: str, folder: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Logits, and in training mode gradients by name: ours and those of the twin."""
    variant = VARIANTS[name]
    model = create_model(name, num_classes=CLASSES, drop_path=0, dropout=0)
    tensors = prepare(model)
    images, labels = drawn_images(shape, seed=8), drawn_labels(shape, CLASSES, seed=8)
    bases = drawn_bases(shape[0], variant.decoder_channels, variant.nmf_rank)
    source, target = folder / "in.npz", folder / "out.npz"
    np.savez(source, images=images, labels=labels, bases=bases, **tensors)
    options = json.dumps({"model": name, "num_classes": CLASSES, "training": training})
    command = [python, "-m", "tests.models.torch_pass", str(source), str(target), options]
    root = Path(__file__).resolve().parents[2]
    subprocess.run(command, check=True, env=package_environment(), cwd=root)
    model.train() if training else model.eval()
    logits = model(jt.array(images))
    ours = {"logits": logits}
    if training:
        parameters = model.parameters_to_train()
        loss = segmentation_loss(logits, jt.array(labels))
        ours |= dict(zip(parameters, jt.grad(loss, list(parameters.values()), True), strict=True))
    return {key: var.numpy() for key, var in ours.items()}, dict(np.load(target))


@pytest.mark.parametrize("name", VARIANTS)
def test_logits_equal_those_of_the_twin(name: str, interpreter: str, tmp_path: Path) -> None:
    ours, twin = _both(name, (1, 3, 64, 96), training=False, python=interpreter, folder=tmp_path)
    assert np.abs(ours["logits"] - twin["logits"]).max() < 1e-4 * np.abs(twin["logits"]).max()


def test_gradients_equal_those_of_the_twin(interpreter: str, tmp_path: Path) -> None:
    ours, twin = _both("tiny", (2, 3, 64, 96), training=True, python=interpreter, folder=tmp_path)
    assert ours.keys() == twin.keys()
    for key, expected in twin.items():
        assert np.linalg.norm(ours[key] - expected) < 1e-3 * np.linalg.norm(expected) + 1e-6, key
