"""TensorBoard as a mirror of the event log (extra ``tensorboard``); files go to ``tensorboard/`` in the run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segnext.errors import ConfigError
from segnext.files import strict_json
from segnext.plots.overlays import side_by_side
from segnext.tracking.events import Event
from segnext.tracking.images import ValidationImage
from segnext.tracking.run_folder import RunFolder, State

__all__ = ["TensorBoardSink"]


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
