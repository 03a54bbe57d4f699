"""The training loop: one line of iterations from a batch to a step, with evaluation and checkpoints on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from segnext import backend
from segnext.backend import jt
from segnext.backend.world import World
from segnext.data.loader import Batch
from segnext.distributed.all_reduce import all_reduce_mean
from segnext.distributed.communicator import Communicator
from segnext.errors import TrainingError, out_of_memory_explained
from segnext.models.layers import pooled_statistics
from segnext.training.interrupt import Interrupted, StopSignals
from segnext.training.loss import LossScale, segmentation_loss
from segnext.training.meters import LossMeter, MemoryMeter
from segnext.training.optimizer import AdamW
from segnext.training.schedule import ScheduleSettings

__all__ = ["train"]


_LESS_MEMORY = (
    "memory=auto chooses what fits; by hand, set model.gradient_checkpointing=true (the same figures), lower "
    "schedule.micro_batch (the same step, but batch norm sees fewer images) or dataset.crop, or on a GPU precision=bf16"
)


def train(
    model: Any,
    optimizer: AdamW,
    batches: Iterable[Batch],
    *,
    schedule: ScheduleSettings,
    seed: int,
    log: Callable[[int, Mapping[str, float]], None],
    evaluate: Callable[[int, Callable[[], None]], None],
    save: Callable[[int], None],
    communicator: Communicator | None = None,
    loss_scale: LossScale | None = None,
    losses: LossMeter | None = None,
    on_step: Callable[[int], None] = lambda done: None,
) -> None:
    """Trains ``model`` on ``batches`` to their end, in step with the other ranks of ``communicator``.

    Args:
        schedule: learning rate, micro-batch, and how often something happens.
        seed: drop path, dropout and bases of an image follow from (seed, iteration, index of the image).
        log, save: called with the number of iterations done; ``save`` always before ``evaluate``.
        evaluate: called with the number of iterations done and a function to call now and then: it raises Interrupted
            once a signal has come.
        communicator: the ranks, each of which has its own part of every batch; None trains in this process alone.
        loss_scale: for float16; a step whose gradients are not finite is left out.
        on_step: called after every step with the number of iterations done.
        losses: gathers the losses between two records; given where it is part of what is saved.

    Raises:
        DivergenceError: the loss is no longer finite, or has become zero.
        Interrupted: SIGINT, SIGTERM, SIGUSR1 or SIGHUP came; the state was saved before.
    """
    communicator = communicator or Communicator(World())
    meter = losses or LossMeter(communicator.size)
    memory = MemoryMeter()
    model.train()
    with out_of_memory_explained(_LESS_MEMORY, TrainingError), StopSignals() as signals:
        for batch in batches:
            done = batch.iteration + 1
            lr = schedule.learning_rate(batch.iteration)
            factor = loss_scale.value if loss_scale else 1.0
            loss = _forward_backward(
                model, optimizer, batch, seed=seed, micro_batch=schedule.micro_batch, loss_factor=factor
            )
            log_now = schedule.is_due(schedule.log_interval, done)
            if log_now or loss_scale:
                norm = optimizer.gradient_norm()
            if loss_scale and not loss_scale.update(float(norm.item())):
                optimizer.zero_grad()
            else:
                optimizer.step(lr)
            jt.sync_all()
            communicator.hang_timer.reset(f"training after iteration {done}")
            meter.add(loss, images=len(batch.images))
            on_step(done)
            if log_now:
                figures = {**meter.read(done), "train/lr": lr, "train/grad_norm": float(norm.item())}
                scale = {"train/loss_scale": factor} if loss_scale else {}
                log(done, {**figures, **scale, **memory.read()})
            # The ranks decide together, once an iteration: a signal reaches each of them at another moment.
            stop = communicator.all_reduce_max(signals.received or 0)
            evaluate_now = schedule.is_due(schedule.eval_interval, done)
            if evaluate_now or schedule.is_due(schedule.checkpoint_interval, done) or stop:
                meter.check(done)
                save(done)
                communicator.barrier()  # all wait: who ends before rank 0 has saved ends rank 0 as well
                saved = f"after iteration {done}; resume=auto goes on from there"
                if stop:
                    raise Interrupted(stop, saved)
                if evaluate_now:
                    model.eval()
                    evaluate(done, partial(signals.raise_if_received, saved))
                    backend.release_memory()  # blocks of the sizes of the validation images
                    model.train()
                meter.restart_clock()


def _pass(model: Any, optimizer: AdamW, batch: Batch, part: slice, *, seed: int, loss_factor: float) -> Any:
    """Adds the gradients of a part of the batch to those in the optimizer; returns its share of the batch's loss."""
    images, labels, indices = batch.images[part], batch.labels[part], batch.indices[part]
    model.seed_noise([(seed, batch.iteration, int(index)) for index in indices])
    loss = segmentation_loss(model(jt.array(images)), jt.array(labels))
    if len(images) < len(batch.images):
        loss = loss * (len(images) / len(batch.images))
    optimizer.backward(loss if loss_factor == 1 else loss * loss_factor)
    return loss.stop_grad()


def _forward_backward(
    model: Any, optimizer: AdamW, batch: Batch, *, seed: int, micro_batch: int | None, loss_factor: float
) -> Any:
    """Leaves the gradients of a batch's loss, averaged over all ranks, in the optimizer.

    Args:
        micro_batch: images per pass; their gradients add up to those of the whole batch.
        loss_factor: the loss is multiplied with it before the backward pass, and the gradients divided after it.

    Returns:
        The loss (1,), averaged over all ranks.
    """
    size = len(batch.images)
    step = micro_batch or size
    if step >= size:
        batch_loss = _pass(model, optimizer, batch, slice(None), seed=seed, loss_factor=loss_factor)
    else:
        batch_loss = 0
        with pooled_statistics(model):
            for first in range(0, size, step):
                part = slice(first, first + step)
                batch_loss += _pass(model, optimizer, batch, part, seed=seed, loss_factor=loss_factor)
                # Jittor computes late and in an order of its own: else all passes meet in memory.
                jt.sync_all()
    optimizer.all_reduce_gradients()
    if loss_factor != 1:
        optimizer.scale_gradients(1 / loss_factor)
    return all_reduce_mean(batch_loss)
