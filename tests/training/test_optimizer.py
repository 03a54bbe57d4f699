from __future__ import annotations

import math

import numpy as np
import pytest

from segnext import backend
from segnext.errors import WeightsError
from segnext.models.tensor_shapes import is_running_statistic, tensor_shapes
from segnext.training.optimizer import AdamW, Group, group_of, parameter_groups
from segnext.training.schedule import ScheduleSettings
from tests.training.numpy_adamw import NumpyAdamW

jt = backend.start()

HEAD, NO_DECAY, REST = Group(10, 0.01), Group(1, 0), Group(1, 0.01)


def _optimizer(values: dict[str, np.ndarray]) -> AdamW:
    parameters = {name: jt.array(value) for name, value in values.items()}
    return AdamW(parameters, parameter_groups(parameters))


@pytest.mark.parametrize(
    ("name", "tensors", "elements"),
    [("tiny", 66, 8384), ("small", 54, 14720), ("base", 98, 27776), ("large", 166, 48000)],
)
def test_norms_of_the_backbone_have_no_decay(name: str, tensors: int, elements: int) -> None:
    shapes = tensor_shapes(name, num_classes=150)
    members = parameter_groups(n for n in shapes if not is_running_statistic(n))[NO_DECAY]
    assert (len(members), sum(math.prod(shapes[n]) for n in members)) == (tensors, elements)


@pytest.mark.parametrize(
    ("name", "parameters", "elements"),
    [("tiny", 457, 359_830), ("small", 361, 482_710), ("base", 713, 1_358_486), ("large", 1257, 4_289_686)],
)
def test_the_head_learns_ten_times_faster_with_decay(name: str, parameters: int, elements: int) -> None:
    shapes = tensor_shapes(name, num_classes=150)
    groups = parameter_groups(n for n in shapes if not is_running_statistic(n))
    assert len(groups[HEAD]) == 13
    assert sum(math.prod(shapes[n]) for n in groups[HEAD]) == elements
    assert sum(len(members) for members in groups.values()) == parameters


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("backbone.block2.1.norm2.bias", NO_DECAY),
        ("backbone.patch_embed3.norm.weight", NO_DECAY),
        ("backbone.norm4.weight", NO_DECAY),
        ("backbone.patch_embed1.proj.1.weight", REST),  # a norm of the stem: its name does not say so
        ("backbone.block1.0.layer_scale_1", REST),
        ("backbone.block1.0.mlp.fc1.bias", REST),
        ("decode_head.squeeze.gn.weight", HEAD),
        ("decode_head.conv_seg.bias", HEAD),
        ("decode_head.norm.weight", HEAD),  # no such parameter; "head" would win
    ],
)
def test_the_first_matching_rule_decides_the_group(name: str, group: Group) -> None:
    assert group_of(name, ScheduleSettings()) == group


def test_steps_equal_numpy_adamw_in_every_group() -> None:
    rng = np.random.default_rng(0)
    names = ["backbone.a.weight", "backbone.norm1.weight", "decode_head.b.bias"]
    values = {name: rng.standard_normal((3, 4)).astype("f") for name in names}
    optimizer = _optimizer(values)
    reference = NumpyAdamW(values, {name: group_of(name, ScheduleSettings()) for name in names})
    for lr in (1e-2, 5e-3, 1e-3):
        slopes = {name: rng.standard_normal((3, 4)).astype("f") for name in names}
        optimizer.backward(sum((p * jt.array(slopes[name])).sum() for name, p in optimizer.parameters.items()))
        optimizer.step(lr)
        reference.step(slopes, lr=lr)
    for name in names:
        np.testing.assert_allclose(optimizer.parameters[name].numpy(), reference.parameters[name], rtol=1e-5, atol=1e-6)


def test_two_backward_passes_gather_their_gradients_into_one_step() -> None:
    start = {"w": np.array([1.0, 2.0], "f")}
    halves, whole = _optimizer(start), _optimizer(start)
    for part in ([3.0, 0.0], [0.0, 4.0]):
        halves.backward((halves.parameters["w"] * jt.array(np.array(part, "f"))).sum())
    whole.backward((whole.parameters["w"] * jt.array(np.array([3.0, 4.0], "f"))).sum())
    assert halves.gradient_norm().item() == whole.gradient_norm().item() == 5
    halves.step(0.1)
    whole.step(0.1)
    np.testing.assert_array_equal(halves.parameters["w"].numpy(), whole.parameters["w"].numpy())


def test_gradients_of_a_scaled_loss_are_scaled_back_for_the_norm_and_one_step() -> None:
    start = {"w": np.array([1.0, 2.0], "f")}
    scaled, plain = _optimizer(start), _optimizer(start)
    slope = jt.array(np.array([3.0, 4.0], "f"))
    for _ in range(2):  # the second step is not scaled back again by the first one's factor
        scaled.backward((scaled.parameters["w"] * slope).sum() * 1024)
        scaled.scale_gradients(1 / 1024)
        plain.backward((plain.parameters["w"] * slope).sum())
        assert scaled.gradient_norm().item() == plain.gradient_norm().item() == 5
        scaled.step(0.1)
        plain.step(0.1)
    np.testing.assert_array_equal(scaled.parameters["w"].numpy(), plain.parameters["w"].numpy())


def test_a_restored_optimiser_goes_on_as_if_never_interrupted() -> None:
    slope = jt.array(np.array([0.3, -0.7], "f"))

    def step(optimizer: AdamW) -> np.ndarray:
        optimizer.backward((optimizer.parameters["w"] * slope).sum())
        optimizer.step(0.1)
        return optimizer.parameters["w"].numpy()

    original = _optimizer({"w": np.array([1.0, 2.0], "f")})
    restored = _optimizer({"w": step(original)})
    restored.load_state(original.state(), steps=original.steps)
    np.testing.assert_array_equal(step(restored), step(original))


def test_a_state_without_a_moment_is_refused() -> None:
    optimizer = _optimizer({"w": np.zeros(2, "f")})
    state = optimizer.state()
    del state["exp_avg_sq/w"]
    with pytest.raises(WeightsError, match="exp_avg_sq of w"):
        optimizer.load_state(state, steps=1)


def test_moments_under_the_names_of_earlier_versions_are_restored() -> None:
    optimizer = _optimizer({"w": np.zeros(2, "f")})
    optimizer.load_state({"first/w": np.array([1, 2], "f"), "second/w": np.array([3, 4], "f")}, steps=5)
    assert {name: array.tolist() for name, array in optimizer.state().items()} == {
        "exp_avg/w": [1, 2],
        "exp_avg_sq/w": [3, 4],
    }
