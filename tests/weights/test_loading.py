"""Weights go into a model completely or not at all, and the report says what became of each tensor."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from segnext.errors import WeightsError
from segnext.models.tensor_shapes import tensor_shapes
from segnext.weights.key_format import renamed_for, with_batch_counters
from segnext.weights.loading import load_weights, read_weights
from segnext.weights.saving import save_weights
from tests.weights.fakes import FakeModel, assert_same_bits, torch_state, write_torch_legacy, write_torch_zip

Change = Callable[[dict[str, np.ndarray]], None]


@pytest.fixture(scope="module")
def source() -> FakeModel:
    return FakeModel("tiny", num_classes=19, seed=1)


def write(path: Path, source: FakeModel, change: Change | None = None) -> Path:
    arrays = source.arrays()
    if change:
        change(arrays)
    save_file(arrays, path)
    return path


def assert_untouched(model: FakeModel) -> None:
    assert_same_bits(model.arrays(), FakeModel("tiny", num_classes=19, seed=2).arrays())


@pytest.mark.parametrize("writer", [write_torch_zip, write_torch_legacy])
@pytest.mark.parametrize("spelling", ["official", "mmseg"])
def test_pytorch_checkpoints_of_both_spellings_load_completely(
    writer: Callable[[Path, Any], Path], spelling: str, source: FakeModel, tmp_path: Path
) -> None:
    state = torch_state(with_batch_counters(renamed_for(source.arrays(), spelling)))
    checkpoint = {"meta": {"iter": 160000}, "state_dict": OrderedDict((f"module.{k}", v) for k, v in state.items())}
    model = FakeModel("tiny", num_classes=19, seed=2)
    report = load_weights(model, writer(tmp_path / "x.pth", checkpoint))
    assert_same_bits(model.arrays(), source.arrays())
    assert report.complete
    assert len(report.matched) == 457 + 62  # parameters, running means and variances
    assert len(report.ignored) == 31
    assert report.unexpected == ()


def test_an_imagenet_backbone_without_prefix_fills_the_backbone_and_leaves_the_head(
    source: FakeModel, tmp_path: Path
) -> None:
    arrays = {
        name.removeprefix("backbone."): array for name, array in source.arrays().items() if name.startswith("backbone.")
    }
    arrays["head.weight"] = np.zeros((1000, 256), np.float32)
    arrays["head.bias"] = np.zeros(1000, np.float32)
    path = write_torch_zip(tmp_path / "mscan_t.pth", {"state_dict": torch_state(arrays)})
    model = FakeModel("tiny", num_classes=19, seed=2)
    head = {name: array for name, array in model.arrays().items() if name.startswith("decode_head.")}
    report = load_weights(model, path, part="backbone")
    after = model.arrays()
    assert_same_bits({name: after[name] for name in head}, head)
    assert after["backbone.norm1.bias"].tobytes() == source.arrays()["backbone.norm1.bias"].tobytes()
    assert set(report.ignored) == {"head.weight", "head.bias"}
    assert set(report.kept) == set(head)
    with pytest.raises(WeightsError, match=r"holds a backbone alone.*model\.pretrained"):
        load_weights(model, path)


def test_the_backbone_of_a_segmentation_checkpoint_can_be_taken_alone(source: FakeModel, tmp_path: Path) -> None:
    model = FakeModel("tiny", num_classes=150, seed=2)
    report = load_weights(model, write(tmp_path / "x.safetensors", source), part="backbone")
    assert report.ignored["decode_head.conv_seg.weight"] == "only the backbone was asked for"


def test_a_missing_tensor_raises_and_assigns_nothing(source: FakeModel, tmp_path: Path) -> None:
    path = write(tmp_path / "x.safetensors", source, lambda arrays: arrays.pop("backbone.norm2.bias"))
    model = FakeModel("tiny", num_classes=19, seed=2)
    with pytest.raises(WeightsError) as caught:
        load_weights(model, path)
    message = str(caught.value)
    assert "x.safetensors does not fit the model: 518 of 519 tensors match, nothing was loaded" in message
    assert "missing in the file: 1 tensor\n    backbone.norm2.bias" in message
    assert_untouched(model)


def test_another_size_is_recognised_by_its_shapes(tmp_path: Path) -> None:
    path = write(tmp_path / "x.safetensors", FakeModel("small", num_classes=19))
    model = FakeModel("tiny", num_classes=19, seed=2)
    with pytest.raises(WeightsError, match="this is a small checkpoint, you asked for model=tiny: set model=small"):
        load_weights(model, path)
    assert_untouched(model)


def test_a_deeper_backbone_that_covers_a_shallower_one_is_refused(tmp_path: Path) -> None:
    base = FakeModel(shapes={k: v for k, v in tensor_shapes("base", num_classes=1).items() if "backbone" in k})
    path = write(tmp_path / "x.safetensors", base)
    small = FakeModel(shapes={k: v for k, v in tensor_shapes("small", num_classes=1).items() if "backbone" in k})
    with pytest.raises(WeightsError, match="this is a base checkpoint, you asked for model=small"):
        load_weights(small, path, part="backbone")


def test_another_number_of_classes_is_refused_with_both_numbers(source: FakeModel, tmp_path: Path) -> None:
    path = write(tmp_path / "x.safetensors", source)
    with pytest.raises(WeightsError, match=r"predicts 19 classes and the model 150.*model\.reset_classifier=true"):
        load_weights(FakeModel("tiny", num_classes=150), path)


def test_a_new_head_keeps_the_models_own_classifier_and_takes_all_else(source: FakeModel, tmp_path: Path) -> None:
    model = FakeModel("tiny", num_classes=150, seed=2)
    classifier = model.arrays()["decode_head.conv_seg.weight"]
    report = load_weights(model, write(tmp_path / "x.safetensors", source), reset_classifier=True)
    after = model.arrays()
    assert after["decode_head.conv_seg.weight"] is classifier
    assert np.array_equal(after["decode_head.align.conv.weight"], source.arrays()["decode_head.align.conv.weight"])
    assert set(report.kept) == {"decode_head.conv_seg.weight", "decode_head.conv_seg.bias"}
    assert report.complete


def test_foreign_tensors_are_reported_without_stopping(source: FakeModel, tmp_path: Path) -> None:
    def change(arrays: dict[str, np.ndarray]) -> None:
        arrays["auxiliary_head.conv_seg.bias"] = np.zeros(19, np.float32)

    report = load_weights(FakeModel("tiny", num_classes=19), write(tmp_path / "x.safetensors", source, change))
    assert report.unexpected == ("auxiliary_head.conv_seg.bias",)
    assert "unknown to the model: 1 tensor\n    auxiliary_head.conv_seg.bias" in str(report)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(bad: float, source: FakeModel, tmp_path: Path) -> None:
    def change(arrays: dict[str, np.ndarray]) -> None:
        arrays["backbone.norm4.bias"] = np.full(256, bad, np.float32)

    model = FakeModel("tiny", num_classes=19, seed=2)
    with pytest.raises(WeightsError, match=r"backbone\.norm4\.bias holds 256 of 256 numbers that are not finite"):
        load_weights(model, write(tmp_path / "x.safetensors", source, change))
    assert_untouched(model)


def test_half_precision_is_widened_and_said(source: FakeModel, tmp_path: Path) -> None:
    def change(arrays: dict[str, np.ndarray]) -> None:
        arrays["backbone.norm4.bias"] = np.full(256, 0.1, np.float16)

    model = FakeModel("tiny", num_classes=19)
    report = load_weights(model, write(tmp_path / "x.safetensors", source, change))
    assert report.converted == {"float16": 1}
    assert model.arrays()["backbone.norm4.bias"].dtype == np.float32
    assert model.arrays()["backbone.norm4.bias"][0] == np.float32(np.float16(0.1))


def test_whole_numbers_are_no_weights(source: FakeModel, tmp_path: Path) -> None:
    def change(arrays: dict[str, np.ndarray]) -> None:
        arrays["backbone.norm4.bias"] = np.zeros(256, np.int32)

    with pytest.raises(WeightsError, match=r"backbone\.norm4\.bias holds int32 numbers"):
        load_weights(FakeModel("tiny", num_classes=19), write(tmp_path / "x.safetensors", source, change))


def test_a_model_of_another_precision_is_not_written_to(source: FakeModel, tmp_path: Path) -> None:
    model = FakeModel("tiny", num_classes=19)
    name = "backbone.norm4.bias"
    model.vars[name].assign(model.arrays()[name].astype(np.float16))
    with pytest.raises(WeightsError, match=f"{name} of the model is float16"):
        load_weights(model, write(tmp_path / "x.safetensors", source))


def test_a_file_of_another_network_is_told(tmp_path: Path) -> None:
    save_file({"layer1.0.conv1.weight": np.zeros((2, 2), np.float32)}, tmp_path / "resnet.safetensors")
    with pytest.raises(WeightsError, match="0 of 519 tensors match, nothing was loaded") as caught:
        load_weights(FakeModel("tiny", num_classes=19), tmp_path / "resnet.safetensors")
    assert "this is no SegNeXt checkpoint" in str(caught.value)


def test_the_report_of_a_clean_load_is_one_line(source: FakeModel, tmp_path: Path) -> None:
    report = load_weights(FakeModel("tiny", num_classes=19), write(tmp_path / "x.safetensors", source))
    assert str(report) == "x.safetensors: 519 tensors loaded"


def test_reading_gives_official_names_without_a_model(source: FakeModel, tmp_path: Path) -> None:
    path = save_weights(source, tmp_path / "x.pth", key_format="mmseg")
    adapted = read_weights(path)
    assert set(adapted.tensors) == set(source.arrays())
    assert len(adapted.ignored) == 31


@pytest.mark.parametrize(("label", "value"), [("part", "head")])
def test_an_unknown_choice_names_the_known_ones(label: str, value: str) -> None:
    with pytest.raises(WeightsError, match=f"{label}={value} is unknown: choose one of"):
        load_weights(FakeModel("tiny"), "x.pth", **{label: value})  # type: ignore[arg-type]
