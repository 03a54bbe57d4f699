"""The loss kernel equals plain Jittor, forward and backward."""

from __future__ import annotations

import numpy as np
import pytest

from segnext import backend
from segnext.kernels.cross_entropy import IGNORE, cross_entropy, cross_entropy_reference

jt = backend.start()


def drawn(classes: int, old: tuple[int, int], new: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels of which a fifth is ignored."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, (2, *new))
    labels[rng.random(labels.shape) < 0.2] = IGNORE
    return (3 * rng.standard_normal((2, classes, *old))).astype("f"), labels.astype("int32")


@pytest.mark.parametrize("classes", [1, 2, 19, 40])
@pytest.mark.parametrize(
    ("old", "new"),
    [((4, 6), (32, 48)), ((5, 9), (37, 71)), ((1, 1), (3, 4)), ((6, 130), (6, 130)), ((12, 20), (5, 7))],
    ids=lambda s: f"{s[0]}x{s[1]}",
)
def test_loss_and_gradient_equal_plain_jittor(classes: int, old: tuple[int, int], new: tuple[int, int]) -> None:
    logits, labels = (jt.array(array) for array in drawn(classes, old, new))
    results = []
    for function in (cross_entropy, cross_entropy_reference):
        loss = function(logits, labels)
        pixels = labels.numel()  # so that gradients are of the order of 1
        results.append((loss.numpy(), jt.grad(pixels * loss, logits, True).numpy()))
    for name, found, expected in zip(("loss", "dlogits"), *results, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-5, err_msg=name)


def test_ignored_pixels_cost_nothing_and_have_no_gradient() -> None:
    logits = jt.array(np.random.default_rng(0).standard_normal((1, 3, 2, 2)).astype("f"))
    loss = cross_entropy(logits, jt.array(np.full((1, 8, 8), IGNORE, "int32")))
    assert loss.item() == 0
    assert not jt.grad(loss, logits).numpy().any()


def test_a_label_that_is_no_class_shows_as_nan() -> None:
    losses = [cross_entropy(jt.zeros((1, 3, 1, 1)), jt.array(np.array([[[label]]], "int32"))) for label in (3, -1, 2)]
    assert [bool(np.isnan(loss.item())) for loss in losses] == [True, True, False]


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
def test_labels_may_be_bytes(dtype: str) -> None:
    loss = cross_entropy(jt.zeros((1, 4, 1, 1)), jt.array(np.array([[[3, 255]]], dtype)))
    assert loss.item() == pytest.approx(np.log(4) / 2, rel=1e-6)
