"""Training computes what the official implementation computes: losses, gradients, and parameters after the steps.

Dropout and drop path are off and the bases are fixed, so that nothing is random.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from segnext import backend
from segnext.models.segnext import create_model
from segnext.training.loss import segmentation_loss
from segnext.training.optimizer import AdamW, group_of, parameter_groups
from segnext.training.schedule import ScheduleSettings
from tests.kernels.plain import use_plain_operators
from tests.models.drawn import drawn_bases, drawn_images, drawn_labels, golden, prepare
from tests.models.numpy_segnext import NumpySegNeXt, loss
from tests.training.numpy_adamw import NumpyAdamW

jt = backend.start()

SHAPE, SEED, CLASSES, LR, STEPS = (2, 3, 64, 96), 11, 19, 6e-5, 3

# Batch normalisation takes a preceding bias away, so its exact gradient is 0. Adam divides the rounding error that is
# computed instead by its own size: these biases drift by up to one rate a step, in a direction without meaning, and
# the running means behind them with them.
NOISE = {
    *(f"backbone.patch_embed1.proj.{layer}" for layer in ("0.bias", "1.running_mean", "3.bias", "4.running_mean")),
    *(f"backbone.patch_embed{i}.{tensor}" for i in (2, 3, 4) for tensor in ("proj.bias", "norm.running_mean")),
}


class Training:
    """Three steps of tiny, with everything that they leave behind."""

    def __init__(self) -> None:
        self.images = drawn_images(SHAPE, SEED)
        self.labels = drawn_labels(SHAPE, CLASSES, SEED)
        model = create_model("tiny", num_classes=CLASSES, drop_path=0, dropout=0)
        self.initial = prepare(model)
        parameters = model.parameters_to_train()
        optimizer = AdamW(parameters, parameter_groups(parameters))
        self.losses: list[float] = []
        self.gradients: list[dict[str, Any]] = []
        self.tensors: list[dict[str, Any]] = []  # after each step
        moments = {name: np.zeros(var.shape) for name, var in parameters.items()}
        for _ in range(STEPS):
            value = segmentation_loss(model(jt.array(self.images)), jt.array(self.labels))
            optimizer.backward(value)
            optimizer.step(LR)
            self.losses.append(float(value.item()))
            before = moments
            state = optimizer.state()
            moments = {name: state[f"exp_avg/{name}"].astype(np.float64) for name in parameters}
            self.gradients.append({name: (moments[name] - 0.9 * before[name]) / 0.1 for name in parameters})
            self.tensors.append({name: var.numpy() for name, var in model.tensors().items()})

    def reference(self, tensors: dict[str, Any]) -> tuple[float, dict[str, Any]]:
        """Loss and new running statistics of the NumPy reference in training mode."""
        network = NumpySegNeXt(tensors, training=True)
        value = loss(network.logits(self.images, drawn_bases(SHAPE[0], 256, 16)), self.labels)
        return value, network.statistics


@pytest.fixture(scope="module", params=["fused", pytest.param("plain", marks=pytest.mark.slow)])
def training(request: pytest.FixtureRequest) -> Training:
    """By our operators, and by plain Jittor in their place."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        if request.param == "plain":
            use_plain_operators(monkeypatch)
        return Training()


PARTS = {
    "stem": "backbone.patch_embed1.",
    "patch embeds": ("backbone.patch_embed2.", "backbone.patch_embed3.", "backbone.patch_embed4."),
    "stage 1": ("backbone.block1.", "backbone.norm1."),
    "stage 2": ("backbone.block2.", "backbone.norm2."),
    "stage 3": ("backbone.block3.", "backbone.norm3."),
    "stage 4": ("backbone.block4.", "backbone.norm4."),
    "decode head": "decode_head.",
}


@pytest.mark.parametrize("part", PARTS)
def test_gradients_are_the_slopes_of_the_reference_loss(training: Training, part: str) -> None:
    """Along a random direction of one part's parameters, by central differences in float64."""
    gradients = {name: g for name, g in training.gradients[0].items() if name.startswith(PARTS[part])}
    rng = np.random.default_rng(0)
    direction = {name: rng.standard_normal(g.shape) for name, g in gradients.items()}
    step = 1e-8  # so short that hardly any ReLU changes its side
    up, down = (
        training.reference({k: v + sign * step * direction.get(k, 0.0) for k, v in training.initial.items()})[0]
        for sign in (1, -1)
    )
    slope = (up - down) / (2 * step)
    expected = sum((gradients[name] * direction[name]).sum() for name in gradients)
    spread = np.sqrt(sum((g * g).sum() for g in gradients.values()))  # standard deviation of the slope over directions
    assert abs(slope - expected) < 1e-3 * spread


def test_losses_and_parameters_of_three_steps_equal_numpy_adamw(training: Training) -> None:
    names = list(training.gradients[0])
    groups = {name: group_of(name, ScheduleSettings()) for name in names}
    optimizer = NumpyAdamW({name: training.initial[name] for name in names}, groups)
    tensors: dict[str, Any] = dict(training.initial)
    for step in range(STEPS):
        value, statistics = training.reference(tensors)
        assert training.losses[step] == pytest.approx(value, rel=1e-4)
        optimizer.step(training.gradients[step], lr=LR)
        tensors |= optimizer.parameters | statistics
        for name, tensor in tensors.items():
            np.testing.assert_allclose(training.tensors[step][name], tensor, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.shared_data
def test_three_steps_equal_the_official_implementation(training: Training) -> None:
    arrays, meta = golden("train_tiny_19_64x96")
    assert (tuple(meta["shape"]), meta["seed"], meta["classes"]) == (SHAPE, SEED, CLASSES)
    assert training.losses == pytest.approx(arrays["losses"].tolist(), rel=1e-4)
    for name, norm in meta["grad_norms"].items():
        assert np.linalg.norm(training.gradients[0][name]) == pytest.approx(norm, rel=1e-3, abs=1e-6), name
    for name, (total, norm) in meta["after"].items():
        if name.endswith("num_batches_tracked"):
            continue
        tensor = training.tensors[-1][name].astype(np.float64)
        if name in NOISE:
            largest_drift = 2 * STEPS * LR * tensor.size
            assert np.linalg.norm(tensor) == pytest.approx(norm, abs=largest_drift), name
            assert tensor.sum() == pytest.approx(total, abs=largest_drift), name
        else:
            # A weight behind a channel that is almost never active has a gradient of the size of Adam's eps, most of it
            # rounding: its step differs by up to the rate, which decides ReLUs that are at zero (docs/parity.md).
            assert np.linalg.norm(tensor) == pytest.approx(norm, rel=1e-5, abs=1e-6), name
            # a sum may cancel: the norm times the root of the number of elements bounds it
            assert tensor.sum() == pytest.approx(total, abs=1e-5 * (norm + 1e-3) * tensor.size**0.5), name


@pytest.mark.shared_data
def test_groups_equal_the_official_implementation(training: Training) -> None:
    _, meta = golden("train_tiny_19_64x96")
    assert set(meta["groups"]) == set(training.gradients[0])
    for name, (lr, decay) in meta["groups"].items():
        group = group_of(name, ScheduleSettings())
        assert (LR * group.lr_factor, group.weight_decay) == pytest.approx((lr, decay)), name
