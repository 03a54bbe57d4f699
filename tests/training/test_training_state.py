"""What is saved survives damage, and a run that goes on is the run that was not stopped."""

from __future__ import annotations

import logging
import struct
from pathlib import Path

import numpy as np
import pytest

from segnext.data.classes import SHAPES
from segnext.data.settings import InferenceSettings
from segnext.errors import WeightsError
from segnext.tracking.images import ValidationImage
from segnext.tracking.run_folder import RunFolder
from segnext.tracking.tracker import Tracker
from segnext.training.meters import LossMeter
from segnext.training.training_state import Checkpoints, evaluated
from segnext.weights.checkpoint import CheckpointInfo
from segnext.weights.saving import save_weights
from tests.training.test_loop import Run, harmonic

LATEST, PREVIOUS = "latest.resume.safetensors", "previous.resume.safetensors"


def saved_twice(folder: Path) -> Run:
    """A run with the states after 2 and after 4 iterations."""
    run = Run(folder)
    run.train(0, 4, schedule=harmonic(log_interval=2, eval_interval=9, checkpoint_interval=2, iterations=9))
    return run


def damage(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-3] ^= 0x40
    file.write_bytes(data)


def test_an_undamaged_run_goes_on_from_the_latest_state(tmp_path: Path) -> None:
    run = saved_twice(tmp_path)
    again = Run(tmp_path)
    assert again.checkpoints.restore() == 4
    assert np.array_equal(again.weight, run.weight)


@pytest.mark.parametrize("how", ["a bit", "cut", "empty", "gone"])
def test_a_damaged_state_is_set_aside_and_the_one_before_is_taken(
    how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    saved_twice(tmp_path)
    latest = tmp_path / LATEST
    if how == "a bit":
        damage(latest)
    elif how == "gone":
        latest.unlink()
    else:
        latest.write_bytes(latest.read_bytes()[: 200 if how == "cut" else 0])
    with caplog.at_level(logging.WARNING):
        assert Run(tmp_path).checkpoints.restore() == 2
    assert how == "gone" or "is damaged" in caplog.text
    assert how == "gone" or (tmp_path / f"damaged.{LATEST}").is_file()


def test_without_any_sound_state_one_error_says_what_to_do(tmp_path: Path) -> None:
    saved_twice(tmp_path)
    damage(tmp_path / LATEST)
    damage(tmp_path / PREVIOUS)
    with pytest.raises(WeightsError, match="start a new run"):
        Run(tmp_path).checkpoints.restore()


@pytest.mark.parametrize("progress", [{"iteration": -5}, {"iteration": 999999999}, {"steps": 7}, {"iteration": "x"}])
def test_a_state_that_says_what_cannot_be_is_damaged(progress: dict[str, object], tmp_path: Path) -> None:
    save_weights({"a": np.zeros(1, np.float32)}, tmp_path / LATEST, metadata={"iteration": 4, "steps": 4} | progress)
    with pytest.raises(WeightsError, match="is damaged"):
        Run(tmp_path).checkpoints.restore()


def test_damaged_best_weights_do_not_keep_a_run_from_going_on_and_are_made_anew(tmp_path: Path) -> None:
    run = saved_twice(tmp_path)
    run.checkpoints.save_if_best(4, 0.5)
    damage(tmp_path / "best.safetensors")
    again = Run(tmp_path)
    assert again.checkpoints.restore() == 4
    again.checkpoints.save_if_best(6, 0.4)
    info = CheckpointInfo.read(tmp_path / "best.safetensors")
    assert info is not None
    assert info.mIoU == 0.4


def test_the_mean_loss_after_a_stop_between_two_records_is_that_of_the_undisturbed_run(tmp_path: Path) -> None:
    every_four = harmonic(log_interval=4, eval_interval=9, checkpoint_interval=2, iterations=9)
    whole = Run(tmp_path / "whole")
    whole.train(0, 4, schedule=every_four)

    def checkpoints(run: Run, losses: LossMeter) -> Checkpoints:
        info = CheckpointInfo("tiny", "shapes", SHAPES, 16, test=InferenceSettings())
        return Checkpoints(tmp_path, run.model, run.optimizer, info=info, losses=losses)

    killed, losses = Run(tmp_path), LossMeter()
    killed.checkpoints = checkpoints(killed, losses)
    killed.train(0, 2, schedule=every_four, losses=losses)
    resumed, losses = Run(tmp_path), LossMeter()
    resumed.checkpoints = checkpoints(resumed, losses)
    assert resumed.checkpoints.restore() == 2
    resumed.train(2, 4, schedule=every_four, losses=losses)
    assert resumed.logged[4]["train/loss"] == whole.logged[4]["train/loss"]


def test_the_first_step_with_its_compilation_does_not_count_for_the_speed() -> None:
    class Loss:
        def item(self) -> float:
            return 1.0

    meter = LossMeter()
    meter.add(Loss(), images=8)
    assert "train/images_per_second" not in meter.read(1)
    meter.add(Loss(), images=8)
    assert meter.read(2)["train/images_per_second"] > 0


@pytest.mark.parametrize("missing", ["", "record", "images", "best"])
def test_an_evaluation_counts_only_with_all_that_it_leaves(missing: str, tmp_path: Path) -> None:
    folder = RunFolder.adopt(tmp_path)
    run = Run(folder.checkpoints)
    picture = np.zeros((4, 4, 3), np.uint8)
    with Tracker(folder, class_names=["a"], palette=np.zeros((1, 3), np.uint8)) as tracker:
        if missing != "best":
            run.checkpoints.save_if_best(8, 0.5)
        if missing != "images":
            tracker.images(8, [ValidationImage("a", picture, picture[..., 0], picture[..., 0])])
        if missing != "record":
            tracker.log(8, {"val/mIoU": 0.5})
    assert evaluated(folder, 8) is (missing == "")


def test_a_checkpoint_of_an_earlier_version_has_no_checksum_and_is_taken(tmp_path: Path) -> None:
    saved_twice(tmp_path)
    file = tmp_path / LATEST
    data = file.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    file.write_bytes(data[:8] + data[8 : 8 + size].replace(b'"checksum"', b'"unknown_"') + data[8 + size :])
    assert Run(tmp_path).checkpoints.restore() == 4
