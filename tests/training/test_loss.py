from __future__ import annotations

import math

import numpy as np
import pytest

from segnext import backend
from segnext.kernels.resize import resize
from segnext.training.loss import segmentation_loss
from tests.models.numpy_segnext import bilinear
from tests.models.numpy_segnext import loss as numpy_loss

jt = backend.start()


def _loss(logits: np.ndarray, labels: np.ndarray) -> float:
    return float(segmentation_loss(jt.array(logits.astype("f")), jt.array(labels.astype("int32"))).item())


def test_equal_logits_cost_the_logarithm_of_the_number_of_classes() -> None:
    assert _loss(np.zeros((1, 4, 2, 2)), np.zeros((1, 2, 2), int)) == pytest.approx(math.log(4))


def test_an_ignored_pixel_counts_as_zero_in_the_mean_over_all_pixels() -> None:
    labels = np.array([[[0, 255], [255, 255]]])
    assert _loss(np.zeros((1, 4, 2, 2)), labels) == pytest.approx(math.log(4) / 4)


def test_a_batch_without_labels_costs_nothing() -> None:
    assert _loss(np.ones((1, 3, 1, 1)), np.full((1, 8, 8), 255)) == 0


def test_huge_logits_do_not_overflow() -> None:
    logits = np.array([1000.0, -1000.0]).reshape(1, 2, 1, 1)
    assert _loss(logits, np.ones((1, 1, 1), int)) == pytest.approx(2000)


def test_logits_are_resized_to_the_labels() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((2, 5, 4, 6)), rng.integers(0, 5, (2, 31, 47))
    assert _loss(logits, labels) == pytest.approx(numpy_loss(logits, labels), rel=1e-5)


def test_the_gradient_of_the_loss_is_softmax_minus_one_hot_over_all_pixels() -> None:
    logits = jt.array(np.log(np.array([1.0, 3.0], "f")).reshape(1, 2, 1, 1).repeat(2, axis=3))
    gradient = jt.grad(segmentation_loss(logits, jt.array(np.array([[[0, 255]]], "int32"))), logits).numpy()
    np.testing.assert_allclose(gradient[0, :, 0, 0], [(0.25 - 1) / 2, 0.75 / 2], rtol=1e-5)
    np.testing.assert_array_equal(gradient[0, :, 0, 1], 0)


def test_enlarging_a_constant_map_eightfold_gives_each_pixel_a_gradient_of_64() -> None:
    x = jt.ones((1, 1, 3, 4))
    np.testing.assert_allclose(jt.grad(resize(x, (24, 32)).sum(), x).numpy(), 64, rtol=1e-5)


def test_the_gradient_of_a_resize_is_its_exact_adjoint() -> None:
    rng = np.random.default_rng(0)
    source, target = rng.standard_normal((1, 2, 3, 5)), rng.standard_normal((1, 2, 11, 17))
    x = jt.array(source.astype("f"))
    resized = resize(x, (11, 17))
    np.testing.assert_allclose(resized.numpy(), bilinear(source, (11, 17)), atol=1e-5)
    gradient = jt.grad((resized * jt.array(target.astype("f"))).sum(), x).numpy()
    assert (gradient * source).sum() == pytest.approx((bilinear(source, (11, 17)) * target).sum(), rel=1e-4)
