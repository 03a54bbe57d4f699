"""The training loop on a network of one layer: order of events, guards, accumulation and exact resuming."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segnext import backend
from segnext.backend.world import World
from segnext.data.classes import SHAPES
from segnext.data.loader import Batch
from segnext.data.settings import InferenceSettings
from segnext.distributed.communicator import Communicator
from segnext.errors import TrainingError, WeightsError
from segnext.training.interrupt import Interrupted
from segnext.training.loop import train
from segnext.training.loss import LossScale
from segnext.training.meters import LossMeter
from segnext.training.optimizer import AdamW, parameter_groups
from segnext.training.schedule import ScheduleSettings
from segnext.training.training_state import Checkpoints
from segnext.weights.checkpoint import CheckpointInfo

jt = backend.start()
K = len(SHAPES)


class OneLayer(jt.Module):  # type: ignore[misc]
    """A 1×1 convolution that adds a draw per image to its logits, as dropout and bases do."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.weight = jt.array(rng.standard_normal((K, 3)).astype(np.float32))
        self.seeds: list[Any] = []

    def seed_noise(self, seeds: Sequence[Any]) -> None:
        self.seeds.append(list(seeds))
        self._noise = np.stack([np.random.default_rng(s).random((K, 1, 1), np.float32) for s in seeds])

    def execute(self, x: Any) -> Any:
        b, c, h, w = x.shape
        pixels = x.transpose(0, 2, 3, 1).reshape((-1, c))
        logits = jt.matmul(pixels, self.weight.transpose()).reshape((b, h, w, K)).transpose(0, 3, 1, 2)
        return logits + jt.array(self._noise)

    def tensors(self) -> dict[str, Any]:
        return {"weight": self.weight}


def batch(iteration: int, size: int = 4) -> Batch:
    rng = np.random.default_rng([9, iteration])
    images = rng.standard_normal((size, 3, 8, 8)).astype(np.float32)
    labels = rng.integers(0, K, (size, 8, 8)).astype(np.uint8)
    return Batch(images, labels, np.zeros(size, int), np.arange(size), iteration)


class Harmonic(ScheduleSettings):
    """A rate that falls from the first iteration on, and differs between any two."""

    def learning_rate(self, iteration: int) -> float:
        return 0.01 / (iteration + 1)


def harmonic(**changes: Any) -> ScheduleSettings:
    defaults = {"iterations": 6, "log_interval": 2, "eval_interval": 4, "checkpoint_interval": 3}
    return Harmonic(**defaults | changes)


class Run:
    """A model with its optimizer, and a record of what the loop called."""

    def __init__(self, folder: Path) -> None:
        self.model = OneLayer()
        self.optimizer = AdamW(self.model.tensors(), parameter_groups(self.model.tensors()))
        info = CheckpointInfo("tiny", "shapes", SHAPES, 16, test=InferenceSettings())
        self.checkpoints = Checkpoints(folder, self.model, self.optimizer, info=info)
        self.calls: list[str] = []
        self.logged: dict[int, dict[str, float]] = {}

    def train(
        self,
        first: int,
        last: int,
        *,
        schedule: ScheduleSettings | None = None,
        batches: list[Batch] | None = None,
        losses: LossMeter | None = None,
        communicator: Communicator | None = None,
        on_log: Callable[[int], None] = lambda done: None,
    ) -> None:
        def log(done: int, metrics: Any) -> None:
            self.calls.append(f"log {done}")
            self.logged[done] = dict(metrics)
            on_log(done)

        def save(done: int) -> None:
            self.calls.append(f"save {done}")
            self.checkpoints.save_latest(done)

        def evaluate(done: int, check: Callable[[], None]) -> None:
            self.calls.append(f"evaluate {done} {'training' if self.model.is_training() else 'eval'}")
            check()

        train(
            self.model,
            self.optimizer,
            batches or [batch(i) for i in range(first, last)],
            schedule=schedule or harmonic(),
            seed=3,
            log=log,
            evaluate=evaluate,
            save=save,
            losses=losses,
            communicator=communicator,
        )

    @property
    def weight(self) -> np.ndarray:
        return np.array(self.model.weight.numpy())


def test_logs_saves_and_evaluates_when_due_and_saves_before_evaluating(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.train(0, 6)
    assert run.calls == [
        "log 2",
        "save 3",
        "log 4",
        "save 4",
        "evaluate 4 eval",
        "log 6",
        "save 6",
        "evaluate 6 eval",
    ]
    assert run.model.is_training()


def test_what_is_logged_is_the_mean_loss_the_rate_and_the_gradient_norm(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.train(0, 2, schedule=harmonic(iterations=2, log_interval=1))
    each = [run.logged[1]["train/loss"], run.logged[2]["train/loss"]]
    pair = Run(tmp_path)
    pair.train(0, 2, schedule=harmonic(iterations=2))
    assert pair.logged[2]["train/loss"] == pytest.approx(np.mean(each), rel=1e-6)
    assert pair.logged[2]["train/lr"] == 0.005
    assert pair.logged[2]["train/grad_norm"] > 0
    assert pair.logged[2]["train/images_per_second"] > 0


def test_draws_follow_from_seed_iteration_and_image(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.train(5, 6)
    assert run.model.seeds == [[(3, 5, 0), (3, 5, 1), (3, 5, 2), (3, 5, 3)]]


def test_accumulating_micro_batches_equals_one_batch(tmp_path: Path) -> None:
    whole, parts = Run(tmp_path / "a"), Run(tmp_path / "b")
    whole.train(0, 3)
    parts.train(0, 3, schedule=harmonic(micro_batch=2, batch_size=4))
    np.testing.assert_allclose(parts.weight, whole.weight, rtol=1e-5, atol=1e-6)
    assert len(parts.model.seeds) == 2 * len(whole.model.seeds)


def test_a_resumed_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    straight = Run(tmp_path / "straight")
    straight.train(0, 6)
    stopped = Run(tmp_path / "stopped")
    stopped.train(0, 3)
    resumed = Run(tmp_path / "stopped")
    first = resumed.checkpoints.restore()
    resumed.train(first, 6)
    assert first == 3
    assert (resumed.weight == straight.weight).all()


def test_a_signal_saves_and_raises(tmp_path: Path) -> None:
    run = Run(tmp_path)
    with pytest.raises(Interrupted) as stop:
        run.train(0, 6, on_log=lambda done: os.kill(os.getpid(), signal.SIGTERM))
    assert stop.value.exit_code == 143
    assert run.calls == ["log 2", "save 2"]
    assert Run(tmp_path).checkpoints.restore() == 2


class SignalledLate(Communicator):
    """Two ranks that have just agreed to go on when a signal comes to this one."""

    def all_reduce_max(self, number: int) -> int:
        agreed = super().all_reduce_max(number)
        os.kill(os.getpid(), signal.SIGTERM)
        return agreed


def test_a_signal_after_the_ranks_have_agreed_to_go_on_stops_them_an_iteration_later(tmp_path: Path) -> None:
    run = Run(tmp_path)
    with pytest.raises(Interrupted):
        run.train(0, 6, communicator=SignalledLate(World()))
    assert run.calls == ["log 2", "save 2"]


def test_a_signal_during_an_evaluation_does_not_wait_for_its_end(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.train(0, 3)
    with pytest.raises(Interrupted):
        run.train(3, 6, on_log=lambda done: os.kill(os.getpid(), signal.SIGTERM) if done == 4 else None)
    assert run.calls[-2:] == ["log 4", "save 4"]


@pytest.mark.parametrize(("image", "loss"), [(math.nan, "nan"), (math.inf, "nan")])
def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_iteration(
    tmp_path: Path, image: float, loss: str
) -> None:
    bad = batch(1)
    bad.images[:] = image
    run = Run(tmp_path)
    with pytest.raises(TrainingError, match=f"loss was {loss} at iteration 2: lower schedule.lr"):
        run.train(0, 4, batches=[batch(0), bad, batch(2), batch(3)])
    assert not run.checkpoints.resume_file.exists()


def test_a_loss_of_zero_stops_the_run(tmp_path: Path) -> None:
    unlabelled = batch(0)
    unlabelled.labels[:] = 255
    with pytest.raises(TrainingError, match="exactly 0 at iteration 1"):
        Run(tmp_path).train(0, 2, batches=[unlabelled, batch(1)])


def test_the_best_checkpoint_is_kept_across_a_resume(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.train(0, 3)
    run.checkpoints.save_if_best(3, 0.5)
    resumed = Run(tmp_path)
    resumed.checkpoints.restore()
    resumed.checkpoints.save_if_best(4, 0.4)
    info = CheckpointInfo.read(tmp_path / "best.safetensors")
    assert info is not None
    assert (info.iteration, info.mIoU) == (3, 0.5)


def test_a_damaged_resume_file_is_named(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.train(0, 3)
    run.checkpoints.resume_file.write_bytes(run.checkpoints.resume_file.read_bytes()[:100])
    with pytest.raises(WeightsError, match=r"latest\.resume\.safetensors is damaged"):
        Run(tmp_path).checkpoints.restore()


def test_a_run_without_a_checkpoint_cannot_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="stopped before its first checkpoint"):
        Run(tmp_path).checkpoints.restore()


def test_missing_memory_on_the_way_ends_the_training_with_what_to_lower(tmp_path: Path) -> None:
    run = Run(tmp_path)

    def too_large(x: Any) -> Any:
        raise RuntimeError("Unable to alloc cuda device memory for size 8589934592")

    run.model.execute = too_large
    with pytest.raises(TrainingError) as caught:
        run.train(0, 2)
    for key in ("memory=auto", "schedule.micro_batch", "dataset.crop", "model.gradient_checkpointing", "precision"):
        assert key in str(caught.value)


def test_memory_is_logged(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.train(0, 2)
    assert 0 < run.logged[2]["train/device_memory_gib"] <= 1.01 * run.logged[2]["train/device_memory_peak_gib"]


def test_the_loss_scale_is_part_of_what_is_resumed(tmp_path: Path) -> None:
    def checkpoints(scale: LossScale) -> Checkpoints:
        run = Run(tmp_path)
        info = CheckpointInfo("tiny", "shapes", SHAPES, 16, test=InferenceSettings())
        return Checkpoints(tmp_path, run.model, run.optimizer, info=info, loss_scale=scale)

    learned, fresh = LossScale(512.0), LossScale()
    learned.update(1.0)
    checkpoints(learned).save_latest(3)
    checkpoints(fresh).restore()
    assert fresh.state() == learned.state()
