"""What the training loop talks to: writes the event log first, then tells the display and the mirrors."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import platform
import socket
import subprocess
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Any, SupportsFloat

import numpy as np
from numpy.typing import NDArray

from segnext.errors import TrainingError, found_at_work
from segnext.tracking.console import ProgressDisplay
from segnext.tracking.events import Event, EventLog, read_events
from segnext.tracking.images import ValidationImage, store_images, write_pictures
from segnext.tracking.mirrors import Mirror, Sink
from segnext.tracking.run_folder import RunFolder, State

__all__ = ["RankLog", "Tracker", "git_revision"]

logger = logging.getLogger(__name__)


def git_revision(path: Path | None = None) -> str | None:
    """The commit of the source in ``path`` (this package's by default), '-dirty' if changed; None if unknown."""
    place = path or Path(__file__).parent
    command = ["git", "-C", str(place), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


class Tracker:
    """Records one run. A context manager: it marks the run ``running``, and at the end finished, failed or interrupted.

    Args:
        folder: the run's folder.
        class_names, palette: K names and (K, 3) uint8 RGB colours.
        sinks: mirrors of the log, for example ``WandbSink``; they can neither stop nor slow the run.
        display: shows progress.
        first_iteration: 0, or the iteration of the checkpoint from which the run goes on; what an earlier session
            logged past it no longer counts.
        finish_timeout: seconds that a mirror has for closing.
        changed: settings that a run goes on with other than before, key → (before, now); noted in its log.
    """

    def __init__(
        self,
        folder: RunFolder,
        *,
        class_names: Sequence[str],
        palette: NDArray[np.uint8],
        sinks: Sequence[Sink] = (),
        display: ProgressDisplay | None = None,
        first_iteration: int = 0,
        finish_timeout: float = 60.0,
        changed: Mapping[str, tuple[Any, Any]] | None = None,
    ) -> None:
        self.folder = folder
        self._palette = palette
        self._first_iteration = first_iteration
        self._sinks = sinks
        self._display = display
        self._finish_timeout = finish_timeout
        self._changed = dict(changed or {})
        self._mirrors: list[Mirror] = []
        self._figures: dict[str, Any] = {}
        self._drawn = False  # whether the pictures hold all that is logged
        self._finished = False
        folder.write_classes(class_names, palette)

    @property
    def figures(self) -> dict[str, Any]:
        """What ``metrics.json`` holds: ``iteration``, ``mIoU``, ``best_mIoU``, ``best_iteration``, and the summary."""
        return dict(self._figures)

    def __enter__(self) -> Tracker:
        self.folder.write_status("running")
        try:
            self._open_log()
        except TrainingError as error:  # nobody calls __exit__
            self.folder.write_status("failed", error=str(error), exit_reason=type(error).__name__)
            raise
        history = [event for event in read_events(self.folder.events) if event.kind != "start"]
        for event in history:
            self._gather(event)
        if self._display is not None:
            self._display.start(history)
        for sink in self._sinks:
            mirror = Mirror(sink)
            mirror.send(lambda sink: sink.start(history))
            self._mirrors.append(mirror)
        return self

    def _open_log(self) -> None:
        self._log = EventLog(self.folder.events)
        info = {
            "git_revision": git_revision(),
            "host": socket.gethostname(),
            "python": platform.python_version(),
            "pid": os.getpid(),
        }
        extra: dict[str, Any] = {"info": info} | ({"changed": self._changed} if self._changed else {})
        self._log.append(Event(self._first_iteration, "start", extra=extra))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.finish("finished")
        elif isinstance(error, KeyboardInterrupt):
            self.finish("interrupted", exit_reason="SIGINT")
        elif isinstance(error, SystemExit) and isinstance(error.code, int) and error.code >= 128:
            self.finish("interrupted", exit_reason=f"signal {error.code - 128}")
        else:
            with (
                contextlib.suppress(OSError),
                self.folder.log.open("a", encoding="utf-8", errors="backslashreplace") as log,
            ):
                traceback.print_exception(error, file=log)
            found_at_work(error)
            self.finish("failed", error=str(error) or type(error).__name__, exit_reason=type(error).__name__)

    def log(self, iteration: int, metrics: Mapping[str, SupportsFloat]) -> None:
        """Records ``metrics`` (full names such as ``train/loss``) after ``iteration`` optimizer steps."""
        kinds: dict[str, dict[str, float]] = {}
        for name, value in metrics.items():
            kinds.setdefault(name.split("/", 1)[0], {})[name] = float(value)
        for kind, part in kinds.items():
            event = Event(iteration, kind, part)
            self._log.append(event)
            self._drawn = False
            self._gather(event)
            if kind == "val":
                self.folder.write_metrics(self._figures)
            if self._display is not None:
                self._display.show(event)
            for mirror in self._mirrors:
                mirror.send(lambda sink, event=event: sink.log(event))  # type: ignore[misc]
            if "val/mIoU" in part:
                self._draw()

    def images(self, iteration: int, images: Sequence[ValidationImage]) -> None:
        """Keeps validation images with their labels in the run folder and shows them to the mirrors."""
        images = [image.shrunk() for image in images]
        stored = store_images(self.folder, images, iteration=iteration, palette=self._palette)
        self._drawn = False
        self._log.append(Event(iteration, "images", extra={"images": [asdict(image) for image in stored]}))
        for mirror in self._mirrors:
            mirror.send(lambda sink: sink.images(iteration, images))

    def summary(self, figures: Mapping[str, Any]) -> None:
        """Adds figures of the whole run (``params``, ``macs``, …) to ``metrics.json`` and the mirrors' summaries."""
        event = Event(
            self._figures.get("iteration", self._first_iteration), "summary", extra={"figures": dict(figures)}
        )
        self._log.append(event)
        self._gather(event)
        self.folder.write_metrics(self._figures)
        for mirror in self._mirrors:
            mirror.send(lambda sink: sink.summary(dict(figures)))

    def step(self, iteration: int) -> None:
        """Tells the display that a step has ended; not recorded."""
        if self._display is not None:
            self._display.step(iteration)

    def evaluating(self, done: int, total: int) -> None:
        """Tells the display how many images of an evaluation are done; not recorded."""
        if self._display is not None:
            self._display.evaluating(done, total)

    def note(self, text: str) -> None:
        """Tells the display what is going on between two records ("evaluating 120/500"); not recorded."""
        if self._display is not None:
            self._display.note(text)

    def finish(self, state: State, *, error: str | None = None, exit_reason: str | None = None) -> None:
        """Ends the run; the first call counts. ``status.json`` is written before any mirror is waited for."""
        if self._finished:
            return
        self._finished = True
        try:
            try:
                self.folder.write_metrics(self._figures)
                self._log.close()
            except TrainingError as problem:  # the disk is full: what is known is in the log
                if state == "finished":
                    self.folder.write_status("failed", error=str(problem), exit_reason=type(problem).__name__)
                    raise
            self.folder.write_status(state, error=error, exit_reason=exit_reason)
            if not self._drawn:
                self._draw()
            self._close_mirrors(state)
        finally:
            if self._display is not None:  # last, since it shows what the mirrors have to say
                self._display.stop()

    def _draw(self) -> None:
        best = self._figures.get("best_iteration")
        self.note("drawing curves and samples")
        write_pictures(self.folder, read_events(self.folder.events), best_iteration=best)
        self.note("")
        self._drawn = True

    def _close_mirrors(self, state: State) -> None:
        for mirror in self._mirrors:
            mirror.send(lambda sink, figures=self.figures: sink.summary(figures))  # type: ignore[misc]
            mirror.send(lambda sink: sink.finish(state))
        for mirror in self._mirrors:
            self.note(f"waiting for {mirror.name}")
            mirror.close(self._finish_timeout)

    def _gather(self, event: Event) -> None:
        """Brings the figures of ``metrics.json`` up to date."""
        figures = self._figures
        if event.kind in ("train", "val"):
            figures["iteration"] = event.iteration
        if event.kind == "summary":
            figures.update(event.extra.get("figures", {}))
        if "val/mIoU" in event.metrics:
            miou = event.metrics["val/mIoU"]
            figures |= {"mIoU": miou, "mAcc": event.metrics.get("val/mAcc"), "aAcc": event.metrics.get("val/aAcc")}
            if not math.isnan(miou) and miou > figures.get("best_mIoU", -1.0):
                figures |= {"best_mIoU": miou, "best_iteration": event.iteration}


class RankLog:
    """Writes a line per record to ``log``; has the methods of ``Tracker`` that a training calls."""

    figures: dict[str, Any]

    def __init__(self, log: IO[str]) -> None:
        self._log = log
        self.figures = {}

    def __enter__(self) -> RankLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.finish("finished")

    def log(self, iteration: int, metrics: Mapping[str, SupportsFloat]) -> None:
        figures = {name: value for name, value in metrics.items() if not name.startswith("val/IoU/")}
        self.note(
            f"iteration {iteration}  " + "  ".join(f"{name} {float(value):.6g}" for name, value in figures.items())
        )

    def note(self, text: str) -> None:
        print(time.strftime("%Y-%m-%d %H:%M:%S"), text, file=self._log, flush=True)

    def finish(self, state: State, *, error: str | None = None, exit_reason: str | None = None) -> None:
        self.note(" ".join(filter(None, [state, error, exit_reason])))

    def step(self, iteration: int) -> None:
        """Rank 0 shows it."""

    def evaluating(self, done: int, total: int) -> None:
        """Rank 0 shows it."""

    def summary(self, figures: Mapping[str, Any]) -> None:
        """Rank 0 records it."""

    def images(self, iteration: int, images: Sequence[ValidationImage]) -> None:
        """Rank 0 keeps them."""
