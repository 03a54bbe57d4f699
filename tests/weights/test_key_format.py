"""Names of all projects lead to the official one and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from segnext.errors import WeightsError
from segnext.weights.key_format import renamed_for, to_official, unwrap, with_batch_counters
from segnext.weights.lazy_arrays import StoredArray

ARRAY = StoredArray((1,), "float32", lambda: np.ones(1, np.float32))


def adapt(*names: str) -> Any:
    return to_official(dict.fromkeys(names, ARRAY), origin="x.pth")


@pytest.mark.parametrize(
    "tree",
    [
        {"a": ARRAY},
        {"state_dict": {"a": ARRAY}, "meta": {"iter": 1}, "optimizer": {"state": {}}},
        {"model": {"a": ARRAY}, "meta": {}, "scheduler": {}, "optimizer": {}},
        {"model": {"state_dict": {"a": ARRAY}}},
    ],
)
def test_weights_are_found_bare_and_inside_training_checkpoints(tree: Any) -> None:
    assert unwrap(tree, origin="x.pth") == {"a": ARRAY}


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ([1, 2], r"x\.pth holds a list"),
        ({}, "holds no weights, only: nothing"),
        ({"meta": {}, "epoch": 3}, "holds no weights, only: meta, epoch"),
        ({"state_dict": {}}, "no weights under 'state_dict'"),
        ({"a": ARRAY, "b": "text"}, "b is no array"),
    ],
)
def test_what_is_no_dict_of_arrays_is_refused(tree: Any, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        unwrap(tree, origin="x.pth")


@pytest.mark.parametrize(
    ("name", "official"),
    [
        ("backbone.norm1.weight", "backbone.norm1.weight"),
        ("module.backbone.norm1.weight", "backbone.norm1.weight"),
        ("module.module.decode_head.conv_seg.bias", "decode_head.conv_seg.bias"),
        ("patch_embed1.proj.0.weight", "backbone.patch_embed1.proj.0.weight"),
        ("block3.26.attn.proj_1.bias", "backbone.block3.26.attn.proj_1.bias"),
        ("module.norm4.bias", "backbone.norm4.bias"),
        ("backbone.block1.0.mlp.dwconv.weight", "backbone.block1.0.mlp.dwconv.dwconv.weight"),
        ("backbone.block1.0.mlp.dwconv.dwconv.bias", "backbone.block1.0.mlp.dwconv.dwconv.bias"),
        ("block1.0.mlp.dwconv.bias", "backbone.block1.0.mlp.dwconv.dwconv.bias"),
        ("auxiliary_head.conv_seg.weight", "auxiliary_head.conv_seg.weight"),
    ],
)
def test_every_spelling_leads_to_the_official_name(name: str, official: str) -> None:
    assert list(adapt(name).tensors) == [official]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("backbone.block1.0.norm1.num_batches_tracked", "counts batches"),
        ("head.weight", "ImageNet classifier"),
        ("module.head.bias", "ImageNet classifier"),
        ("backbone.head.weight", "ImageNet classifier"),
    ],
)
def test_what_segnext_does_not_need_is_set_aside_with_its_reason(name: str, reason: str) -> None:
    adapted = adapt(name)
    assert adapted.tensors == {}
    assert reason in adapted.ignored[name]


def test_two_tensors_for_one_name_are_ambiguous() -> None:
    with pytest.raises(WeightsError, match=r"x\.pth is ambiguous: norm1\.bias and backbone\.norm1\.bias"):
        adapt("norm1.bias", "backbone.norm1.bias")


def test_mmsegmentations_spelling_differs_in_the_depthwise_convolution_alone() -> None:
    official = {"backbone.block1.0.mlp.dwconv.dwconv.bias": 1, "backbone.block1.0.mlp.fc1.bias": 2}
    mmseg = renamed_for(official, "mmseg")
    assert mmseg == {"backbone.block1.0.mlp.dwconv.bias": 1, "backbone.block1.0.mlp.fc1.bias": 2}
    assert renamed_for(official, "official") == official


def test_an_unknown_spelling_names_the_known_ones() -> None:
    with pytest.raises(WeightsError, match="key_format=keras is unknown: choose one of official, mmseg"):
        renamed_for({}, "keras")


def test_a_batch_counter_follows_every_running_variance() -> None:
    one = np.ones(2, np.float32)
    counted = with_batch_counters({"n.running_mean": one, "n.running_var": one, "m.weight": one})
    assert list(counted) == ["n.running_mean", "n.running_var", "n.num_batches_tracked", "m.weight"]
    assert counted["n.num_batches_tracked"].shape == ()
    assert counted["n.num_batches_tracked"].dtype == np.int64
