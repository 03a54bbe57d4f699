"""Mirrors of the event log (W&B, TensorBoard): each in a thread of its own, so that none can stop or slow training.

Whatever a mirror raises becomes one warning and switches that mirror off; a mirror that hangs is left behind when its
time at the end is up. The event log is written before and has everything.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from segnext.errors import ConfigError
from segnext.files import strict_json
from segnext.plots.overlays import side_by_side
from segnext.tracking.events import Event
from segnext.tracking.images import ValidationImage
from segnext.tracking.run_folder import RunFolder, State

__all__ = ["Mirror", "Sink", "TensorBoardSink"]

logger = logging.getLogger(__name__)

_CAPACITY = 10_000  # records waiting for a mirror that hangs; past that it is switched off


class Sink(Protocol):
    """What a mirror does with the records; every method runs in the mirror's thread and may raise or block."""

    name: str

    def start(self, history: Sequence[Event]) -> None:
        """Opens; ``history`` holds the records that count from earlier sessions of a resumed run."""

    def log(self, event: Event) -> None:
        """Takes the metrics of one record."""

    def images(self, iteration: int, images: Sequence[ValidationImage]) -> None:
        """Takes validation images."""

    def summary(self, figures: Mapping[str, Any]) -> None:
        """Takes figures of the whole run; later ones replace earlier ones of the same name."""

    def finish(self, state: State) -> None:
        """Closes."""


class Mirror:
    """Hands calls to ``sink`` one after the other, in a daemon thread."""

    def __init__(self, sink: Sink) -> None:
        self.name = sink.name
        self._sink = sink
        self._calls: queue.Queue[Callable[[Sink], None] | None] = queue.Queue(_CAPACITY)
        self._off = False
        self._thread = threading.Thread(target=self._work, name=f"mirror {sink.name}", daemon=True)
        self._thread.start()

    def send(self, call: Callable[[Sink], None]) -> None:
        """Queues ``call`` and returns at once."""
        if self._off:
            return
        try:
            self._calls.put_nowait(call)
        except queue.Full:
            self._switch_off("it does not keep up")

    def close(self, timeout: float) -> None:
        """Waits for the queued calls, at most ``timeout`` seconds."""
        try:
            self._calls.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(timeout)
        if self._thread.is_alive() and not self._off:
            self._switch_off(f"it did not finish within {timeout:g} s")

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            if self._off:
                continue
            try:
                call(self._sink)
            except Exception as error:
                self._switch_off(f"{type(error).__name__}: {error}")

    def _switch_off(self, why: str) -> None:
        self._off = True
        logger.warning("%s is switched off: %s. The run goes on; events.jsonl has everything.", self.name, why)


class TensorBoardSink:
    """Mirrors one run to TensorBoard files.

    Raises:
        ConfigError: tensorboardX is not installed.
    """

    name = "TensorBoard"

    def __init__(self, folder: RunFolder, *, class_names: Sequence[str], palette: NDArray[np.uint8]) -> None:
        try:
            import tensorboardX
        except ImportError as error:
            raise ConfigError("tracking to TensorBoard needs tensorboardX: pip install '.[tensorboard]'") from error
        self._library = tensorboardX
        self._place = str(folder.path / "tensorboard")
        self._class_names, self._palette = class_names, palette

    def start(self, history: Sequence[Event]) -> None:
        # TensorBoard itself hides what an earlier session logged past the checkpoint.
        purge = max((event.iteration for event in history), default=-1) + 1
        self._writer = self._library.SummaryWriter(self._place, purge_step=purge or None)

    def log(self, event: Event) -> None:
        for name, value in event.metrics.items():
            self._writer.add_scalar(name, value, event.iteration, walltime=event.time)

    def images(self, iteration: int, images: Sequence[ValidationImage]) -> None:
        for image in images:
            page = side_by_side(
                image.image, image.truth, image.prediction, names=self._class_names, palette=self._palette
            )
            self._writer.add_image(f"val/{image.name}", np.asarray(page), iteration, dataformats="HWC")

    def summary(self, figures: Mapping[str, Any]) -> None:
        self._writer.add_text("summary", f"```json\n{strict_json(figures, indent=2)}\n```")

    def finish(self, state: State) -> None:
        self._writer.close()
