"""A batch in several passes: the same step as in one, but that batch norm normalises by fewer images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from segnext import backend
from segnext.data.loader import Batch
from segnext.models.layers import BatchNorm
from segnext.models.segnext import create_model
from segnext.training.loop import _forward_backward
from segnext.training.optimizer import AdamW, create_optimizer
from segnext.training.schedule import ScheduleSettings

jt = backend.start()
IMAGES, SIDE, CLASSES = 4, 32, 5


def batch() -> Batch:
    rng = np.random.default_rng(4)
    images = rng.standard_normal((IMAGES, 3, SIDE, SIDE)).astype(np.float32)
    labels = rng.integers(0, CLASSES, (IMAGES, SIDE, SIDE)).astype(np.uint8)
    return Batch(images, labels, np.zeros(IMAGES, int), np.arange(IMAGES), 0)


def model(*, norms_train: bool) -> Any:
    model = create_model("tiny", num_classes=CLASSES, seed=1)
    if not norms_train:
        for module in model.modules():
            if isinstance(module, BatchNorm):
                module.is_train = False  # eval() would stop the gradients as well
    return model


def backward(model: Any, micro_batch: int | None) -> dict[str, np.ndarray]:
    optimizer: AdamW = create_optimizer(model, ScheduleSettings(iterations=1, batch_size=IMAGES))
    loss = _forward_backward(model, optimizer, batch(), seed=0, micro_batch=micro_batch, loss_factor=1.0)
    gradients = {name: gradient.numpy() for name, gradient in optimizer._gradients.items()}
    return {"loss": loss.numpy(), **gradients}


def test_gradients_of_micro_batches_equal_the_undivided_ones_where_no_norm_sees_the_batch() -> None:
    whole, parts = (backward(model(norms_train=False), micro_batch) for micro_batch in (None, 1))
    for name, gradient in whole.items():
        assert np.abs(parts[name] - gradient).max() <= 1e-6 * max(1, np.abs(gradient).max()), name


@pytest.mark.parametrize("name", ["running_mean", "running_var"])
def test_running_statistics_of_the_first_norm_move_once_as_by_the_undivided_batch(name: str) -> None:
    # Later norms see what earlier ones have normalised by fewer images.
    moved = []
    for micro_batch in (None, 2):
        trained = model(norms_train=True)
        backward(trained, micro_batch)
        moved.append(getattr(trained.backbone.patch_embed1.proj[1], name).numpy())
    np.testing.assert_allclose(moved[1], moved[0], rtol=1e-6, atol=1e-7)
