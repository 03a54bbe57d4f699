"""Names, sizes, initial weights and modes of the model."""

from __future__ import annotations

import ast
import math
from typing import Any

import numpy as np
import pytest

from segnext import backend
from segnext.errors import ConfigError
from segnext.models.ham_head import NMF2D
from segnext.models.mscan import drop_path_rates
from segnext.models.noise import Noise
from segnext.models.segnext import create_model, initial_value
from segnext.models.settings import HamSettings
from segnext.models.tensor_shapes import is_running_statistic, tensor_shapes
from segnext.models.variants import VARIANTS
from tests.models.drawn import drawn_bases, drawn_images, golden_folder

jt = backend.start()


@pytest.fixture(scope="module")
def tiny() -> Any:
    return create_model("tiny", num_classes=150)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_model_has_exactly_the_tensors_of_the_official_layout(name: str) -> None:
    tensors = create_model(name, num_classes=19).tensors()
    assert {key: tuple(var.shape) for key, var in tensors.items()} == tensor_shapes(name, num_classes=19)


@pytest.mark.shared_data
def test_names_and_shapes_of_tiny_equal_the_official_state_dict(tiny: Any) -> None:
    rows = [row.split(" | ") for row in (golden_folder() / "keys_tiny.txt").read_text().splitlines() if row[0] != "#"]
    official = {row[1]: ast.literal_eval(row[2]) for row in rows if not row[1].endswith("num_batches_tracked")}
    assert {name: tuple(var.shape) for name, var in tiny.tensors().items()} == official


def test_running_statistics_are_tensors_but_not_trained(tiny: Any) -> None:
    names = tiny.parameters_to_train().keys()
    assert len(names) == 457
    assert {name for name in tiny.tensors() if is_running_statistic(name)} == tiny.tensors().keys() - names
    assert sum(var.numel() for var in tiny.parameters_to_train().values()) == 4_263_414


@pytest.mark.parametrize(
    ("name", "params", "running"),
    [
        ("tiny", 4_229_747, 7_456),
        ("small", 13_899_219, 12_864),
        ("base", 27_569_107, 25_920),
        ("large", 48_792_275, 46_144),
    ],
)
def test_parameter_counts_are_the_official_ones(name: str, params: int, running: int) -> None:
    sizes = {n: math.prod(shape) for n, shape in tensor_shapes(name, num_classes=19).items()}
    assert sum(size for n, size in sizes.items() if is_running_statistic(n)) == running
    assert sum(sizes.values()) == params + running


def test_drop_path_rises_linearly_from_0_over_the_13_blocks_of_tiny(tiny: Any) -> None:
    rates = drop_path_rates(VARIANTS["tiny"].depths, 0.1)
    assert rates == pytest.approx([k * 0.1 / 12 for k in range(13)])
    stages = [tiny.backbone.block1, tiny.backbone.block2, tiny.backbone.block3, tiny.backbone.block4]
    assert tiny.backbone.drop_path_rates == rates
    assert [block.row for stage in stages for block in stage] == [2 * k for k in range(13)]


def test_drop_path_of_each_size_is_the_official_one() -> None:
    assert {name: variant.drop_path for name, variant in VARIANTS.items()} == {
        "tiny": 0.1,
        "small": 0.1,
        "base": 0.1,
        "large": 0.3,
    }


@pytest.mark.parametrize(
    ("name", "shape", "std"),
    [
        ("backbone.block3.0.mlp.fc1.weight", (640, 160, 1, 1), math.sqrt(2 / 640)),
        ("backbone.patch_embed4.proj.weight", (256, 160, 3, 3), math.sqrt(2 / (9 * 256))),
        ("backbone.block1.0.mlp.dwconv.dwconv.weight", (4096, 1, 3, 3), math.sqrt(2 / 9)),
        ("backbone.block1.0.attn.spatial_gating_unit.conv2_2.weight", (4096, 1, 21, 1), math.sqrt(2 / 21)),
        ("backbone.block4.0.attn.spatial_gating_unit.conv3.weight", (256, 256, 1, 1), math.sqrt(2 / 256)),
        ("decode_head.squeeze.conv.weight", (256, 480, 1, 1), math.sqrt(2 / 256)),
        ("decode_head.conv_seg.weight", (150, 256, 1, 1), 0.01),
    ],
)
def test_initial_weights_have_the_official_standard_deviation(name: str, shape: tuple[int, ...], std: float) -> None:
    values = initial_value(name, shape, seed=0)
    assert values is not None
    assert values.std() == pytest.approx(std, rel=0.02)
    assert abs(values.mean()) < 0.02 * std


def test_a_fresh_model_has_official_initial_values(tiny: Any) -> None:
    tensors = {name: var.numpy() for name, var in tiny.tensors().items()}
    for name, values in tensors.items():
        if name.endswith((".bias", "running_mean")):
            assert not values.any(), name
        elif "layer_scale" in name:
            np.testing.assert_array_equal(values, np.float32(0.01), err_msg=name)
        elif values.ndim == 1:
            np.testing.assert_array_equal(values, 1, err_msg=name)
    weight = "backbone.block3.1.mlp.fc2.weight"
    np.testing.assert_array_equal(tensors[weight], initial_value(weight, (160, 640, 1, 1), seed=0))


def test_the_seed_decides_the_initial_weights() -> None:
    name, shape = "decode_head.align.conv.weight", (4, 4, 1, 1)
    first, again, other = (initial_value(name, shape, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_switching_between_evaluation_and_training_leaves_no_parameter_frozen(tiny: Any) -> None:
    for _ in range(2):
        tiny.eval()
        tiny.train()
    frozen = {name for name, var in tiny.tensors().items() if var.is_stop_grad()}
    assert frozen == {name for name in tiny.tensors() if is_running_statistic(name)}


@pytest.mark.parametrize("name", ["huge", "Tiny", ""])
def test_an_unknown_model_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(ConfigError, match="tiny, small, base, large"):
        create_model(name, num_classes=2)


def test_an_unknown_gradient_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="full, one_step"):
        create_model("tiny", num_classes=2, ham=HamSettings(gradient="none"))


def test_the_one_step_gradient_changes_the_backward_pass_only() -> None:
    features = np.maximum(drawn_images((2, 64, 6, 8), seed=5), 0)
    slope = jt.array(drawn_images((2, 64, 6, 8), seed=6))
    outputs, norms = [], []
    for gradient in ("full", "one_step"):
        ham = NMF2D(8, gradient=gradient, noise=Noise())
        ham.draw_bases = drawn_bases
        ham.train()
        x = jt.array(features)
        output = ham(x)
        norms.append(float(np.linalg.norm(jt.grad((output * slope).sum(), x, True).numpy())))
        outputs.append(output.numpy())
    np.testing.assert_allclose(outputs[0], outputs[1], rtol=1e-5)
    assert norms[0] > 1.1 * norms[1]  # the official gradient is the larger one
