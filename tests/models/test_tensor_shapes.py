"""Names and shapes without a model are those of the official one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from segnext.models.tensor_shapes import infer_size, is_running_statistic, tensor_shapes

SHARED = Path(os.environ.get("SEGNEXT_SHARED", Path(__file__).parents[3] / "shared"))


@pytest.mark.parametrize(("name", "keys"), [("tiny", 550), ("small", 436), ("base", 854), ("large", 1500)])
def test_the_number_of_tensors_is_that_of_pytorchs_state_dict(name: str, keys: int) -> None:
    names = list(tensor_shapes(name, num_classes=150))
    batch_norms = sum(tensor.endswith(".running_var") for tensor in names)
    assert len(names) + batch_norms == keys  # PyTorch keeps a batch counter for each


@pytest.mark.parametrize(("name", "count"), [("tiny", 457), ("small", 361), ("base", 713), ("large", 1257)])
def test_the_number_of_parameters_leaves_running_statistics_out(name: str, count: int) -> None:
    assert sum(not is_running_statistic(tensor) for tensor in tensor_shapes(name, num_classes=150)) == count


def test_depthwise_kernels_of_the_gating_unit_have_their_orientation() -> None:
    shapes = tensor_shapes("tiny", num_classes=150)
    unit = "backbone.block1.0.attn.spatial_gating_unit."
    assert shapes[f"{unit}conv0.weight"] == (32, 1, 5, 5)
    assert shapes[f"{unit}conv0_1.weight"] == (32, 1, 1, 7)
    assert shapes[f"{unit}conv0_2.weight"] == (32, 1, 7, 1)
    assert shapes[f"{unit}conv2_2.weight"] == (32, 1, 21, 1)
    assert shapes["backbone.block1.0.mlp.dwconv.dwconv.weight"] == (256, 1, 3, 3)


@pytest.mark.parametrize("name", ["tiny", "small", "base", "large"])
def test_a_backbone_is_recognised_whatever_the_head(name: str) -> None:
    assert infer_size(tensor_shapes(name, num_classes=7)) == name


def test_an_unknown_backbone_is_not_recognised() -> None:
    shapes = tensor_shapes("tiny", num_classes=7)
    del shapes["backbone.norm4.bias"]
    assert infer_size(shapes) is None


@pytest.mark.shared_data
def test_tiny_has_the_names_shapes_and_order_of_the_official_state_dict() -> None:
    path = SHARED / "golden" / "keys_tiny.txt"
    if not path.exists():
        pytest.skip("golden files are missing")
    rows = [line.split(" | ") for line in path.read_text().splitlines() if not line.startswith("#")]
    golden = [(row[1], row[2]) for row in rows if not row[1].endswith("num_batches_tracked")]
    assert [(name, str(shape)) for name, shape in tensor_shapes("tiny", num_classes=150).items()] == golden
