"""With a real model: Jittor reads what we write, and we read what Jittor writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import segnext
from segnext import backend
from segnext.models.tensor_shapes import is_running_statistic, tensor_shapes
from tests.weights.fakes import assert_same_bits


@pytest.fixture(scope="module")
def model() -> Any:
    return segnext.create_model("tiny", num_classes=7)


def arrays(model: Any) -> dict[str, np.ndarray]:
    return {name: var.numpy() for name, var in model.tensors().items()}


def test_the_layout_is_that_of_the_model(model: Any) -> None:
    assert {name: tuple(var.shape) for name, var in model.tensors().items()} == tensor_shapes("tiny", num_classes=7)


def test_the_count_of_parameters_is_that_of_the_model(model: Any) -> None:
    counted = segnext.complexity("tiny", num_classes=7, height=64, width=64)
    assert sum(var.numel() for var in model.parameters_to_train().values()) == counted.params


@pytest.mark.parametrize("file", ["x.safetensors", "x.pkl", "x.pth"])
def test_a_model_comes_back_bit_for_bit_and_as_trainable_as_before(model: Any, file: str, tmp_path: Path) -> None:
    other = segnext.create_model("tiny", num_classes=7, seed=1)
    segnext.load_weights(other, segnext.save_weights(model, tmp_path / file))
    assert_same_bits(arrays(other), arrays(model))
    for name, var in other.tensors().items():
        assert var.is_stop_grad() == is_running_statistic(name)


def test_jittor_reads_our_pickle(model: Any, tmp_path: Path) -> None:
    jt = backend.start()
    loaded = jt.load(str(segnext.save_weights(model, tmp_path / "x.pkl")))
    assert_same_bits(loaded, arrays(model))


def test_a_training_checkpoint_as_jseg_saves_it_loads(model: Any, tmp_path: Path) -> None:
    jt = backend.start()
    moments = [var * 0 for var in list(model.tensors().values())[:3]]
    content = {
        "model": model.state_dict(),
        "meta": {"jseg_version": "0.1", "iter": 160000, "config": {"model": {"type": "EncoderDecoder"}}},
        "scheduler": {"last_epoch": 3},
        "optimizer": {"defaults": {"n_step": 7, "m": moments}},
    }
    jt.save(content, str(tmp_path / "ckpt_160000.pkl"))
    other = segnext.create_model("tiny", num_classes=7, seed=1)
    report = segnext.load_weights(other, tmp_path / "ckpt_160000.pkl")
    assert str(report) == "ckpt_160000.pkl: 519 tensors loaded"
    assert_same_bits(arrays(other), arrays(model))
