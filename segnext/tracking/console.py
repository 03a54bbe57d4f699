"""What the user sees of a run: two live lines on a terminal, plain log lines anywhere else, always ``train.log``.

The live display fits 80 columns. With TERM=dumb or output that is no terminal, every record is one line.
Scores are fractions in the records and per cent here.
"""

from __future__ import annotations

import io
import logging
import math
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.file_proxy import FileProxy
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from segnext.tracking.events import Event

__all__ = ["ProgressDisplay", "class_table", "duration"]

logger = logging.getLogger("segnext.progress")

_WINDOW = 30  # training records over which the pace is measured


def duration(seconds: float) -> str:
    """'0:09', '1:02:03', '3 d 04:05', or '?' for what is not known."""
    if not math.isfinite(seconds) or seconds < 0:
        return "?"
    minutes, s = divmod(int(seconds), 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    if days:
        return f"{days} d {h:02}:{m:02}"
    return f"{h}:{m:02}:{s:02}" if h else f"{m}:{s:02}"


class ProgressDisplay:
    """Shows the records of a run to its user.

    Args:
        total_iterations: optimizer steps of the whole run.
        title: names the run, for example "tiny on shapes".
        log_file: gets every line too, unless logging already writes there (Hydra's set-up does).
        console: where to draw; standard output by default.
    """

    def __init__(
        self,
        *,
        total_iterations: int,
        title: str = "",
        log_file: Path | None = None,
        console: Console | None = None,
    ) -> None:
        self.console = console or Console(markup=False, emoji=False, soft_wrap=True, highlight=False)
        self.live = self.console.is_terminal and not self.console.is_dumb_terminal
        self._total = total_iterations
        self._title = title
        self._log_file = log_file
        self._pace: deque[tuple[float, int]] = deque(maxlen=_WINDOW)
        self._train: dict[str, float] = {}
        self._note = ""
        self._iteration = 0
        self._miou = self._best = math.nan
        self._best_iteration = 0
        self._live: Live | None = None
        self._added: list[logging.Handler] = []
        self._redirected: list[tuple[logging.StreamHandler[Any], Any]] = []

    def start(self, history: Sequence[Event] = ()) -> None:
        """Opens; ``history`` holds the records of earlier sessions of a resumed run."""
        for event in history:
            self._take(event)
        self._pace.clear()  # an earlier session says nothing about today's pace
        self._add_handlers()
        if self.live:
            self._live = Live(self, console=self.console, refresh_per_second=4, redirect_stderr=True)
            self._live.start()
            self._send_log_lines_above()

    def show(self, event: Event) -> None:
        """Shows one record."""
        self._take(event)
        line = self._line(event)
        if line:
            logger.info(line, extra={"on_display": event.kind == "train"})

    def note(self, text: str) -> None:
        """Shows what is going on between two records ("evaluating 120/500") on a terminal; an empty text clears it."""
        self._note = text

    def print(self, renderable: Any) -> None:
        """Shows a table or text above the live lines and writes it to the log file."""
        self.console.print(renderable)
        plain = io.StringIO()
        Console(markup=False, emoji=False, file=plain, width=80, color_system=None).print(renderable)
        for handler in _handlers():
            if isinstance(handler, logging.FileHandler):
                handler.handle(
                    logging.makeLogRecord({"name": logger.name, "levelno": 20, "msg": "\n" + plain.getvalue()})
                )

    def stop(self) -> None:
        """Leaves the last state on the screen and puts logging back as it was; may be called twice."""
        self._note = ""
        if self._live is not None:
            self._live.stop()
            self._live = None
        for screen, stream in self._redirected:
            screen.setStream(stream)
            screen.removeFilter(_not_on_display)
        self._redirected.clear()
        for handler in self._added:
            logging.getLogger("segnext").removeHandler(handler)
            if isinstance(handler, logging.FileHandler):
                handler.close()
        self._added.clear()

    def __enter__(self) -> ProgressDisplay:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    # What is known

    def _take(self, event: Event) -> None:
        if event.kind == "train":
            self._iteration = event.iteration
            self._train.update(event.metrics)
            self._pace.append((event.time, event.iteration))
        if "val/mIoU" in event.metrics:
            self._miou = event.metrics["val/mIoU"]
            if not self._miou <= self._best and not math.isnan(self._miou):
                self._best, self._best_iteration = self._miou, event.iteration

    def _seconds_left(self) -> float:
        if len(self._pace) < 2:
            return math.nan
        (t0, i0), (t1, i1) = self._pace[0], self._pace[-1]
        if i1 <= i0:
            return math.nan
        return max(0.0, (self._total - i1) * (t1 - t0) / (i1 - i0) - max(0.0, time.time() - t1) * bool(self._live))

    def _time_left(self) -> str:
        seconds = self._seconds_left()
        return "" if math.isnan(seconds) else f"{duration(seconds)} left"

    def _line(self, event: Event) -> str:
        width = len(str(self._total))
        head = f"{event.iteration:>{width}}/{self._total}"
        if event.kind == "train":
            return "  ".join(filter(None, [head, *_train_parts(event.metrics), self._time_left()]))
        if "val/mIoU" in event.metrics:
            scores = [
                f"{n[4:]} {100 * v:.2f} %"
                for n, v in event.metrics.items()
                if n.startswith("val/") and n.count("/") == 1
            ]
            return f"{head}  validation: {'  '.join(scores)}  (best {100 * self._best:.2f} % at {self._best_iteration})"
        return ""

    # What is drawn

    def __rich__(self) -> Table:
        percent = f"{100 * self._iteration / max(self._total, 1):.0f} %"
        first = Table.grid(padding=(0, 1), expand=True)
        for column in ("left", "right", "right"):
            first.add_column(no_wrap=True, justify=column, overflow="ellipsis")
        first.add_column(no_wrap=True, justify="right", min_width=12)
        bar = ProgressBar(total=self._total, completed=self._iteration, width=None)
        first.columns[0].ratio, first.columns[1].ratio = (None, 1)
        first.add_row(
            Text(self._title[:24], style="bold"),
            bar,
            f"{self._iteration}/{self._total} {percent}",
            self._time_left(),
        )
        parts = _train_parts(self._train)
        if not math.isnan(self._miou):
            parts.append(f"mIoU {100 * self._miou:.1f} % (best {100 * self._best:.1f} %)")
        if self._note:
            parts = [*parts[:1], *parts[-1:], self._note] if len(parts) > 1 else [*parts, self._note]
        page = Table.grid(expand=True)
        page.add_row(first)
        page.add_row(
            Text("  ".join(parts) or "the first iteration compiles the operators", no_wrap=True, overflow="ellipsis")
        )
        return page

    # Where log lines go

    def _add_handlers(self) -> None:
        target = logging.getLogger("segnext")
        present = list(_handlers())
        paths = {Path(h.baseFilename) for h in present if isinstance(h, logging.FileHandler)}
        if self._log_file is not None and self._log_file.absolute() not in paths:
            file = logging.FileHandler(self._log_file, encoding="utf-8")
            file.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
            self._added.append(file)
        if not any(_writes_to_screen(h) for h in present):
            screen = logging.StreamHandler(
                FileProxy(self.console, self.console.file) if self.live else self.console.file
            )
            screen.setLevel(logging.INFO)
            if self.live:
                screen.addFilter(_not_on_display)
            screen.setFormatter(logging.Formatter("%(message)s"))
            self._added.append(screen)
        for handler in self._added:
            target.addHandler(handler)
        if not logger.isEnabledFor(logging.INFO):
            target.setLevel(logging.INFO)

    def _send_log_lines_above(self) -> None:
        """Lines that logging writes to the screen go above the live lines; the training records stay off it."""
        for handler in _handlers():
            if isinstance(handler, logging.StreamHandler) and _writes_to_screen(handler):
                self._redirected.append((handler, handler.stream))
                handler.setStream(FileProxy(self.console, handler.stream))
                handler.addFilter(_not_on_display)


def class_table(
    names: Sequence[str], iou: Sequence[float], acc: Sequence[float] | None = None, *, blocks: int | None = None
) -> Table:
    """Per-class IoU (and accuracy) in per cent, '–' for a class that did not occur.

    ``iou`` and ``acc`` are fractions. ``blocks`` classes share a line: one up to 20 classes, else two.
    """
    if blocks is None:
        blocks = 1 if len(names) <= 20 else 2
    table = Table(box=None, pad_edge=False)
    for _ in range(blocks):
        table.add_column("class", no_wrap=True, overflow="ellipsis", max_width=22)
        table.add_column("IoU %", justify="right")
        if acc is not None:
            table.add_column("Acc %", justify="right", style="dim")
    rows = -(-len(names) // blocks)
    for row in range(rows):
        cells: list[str] = []
        for k in range(row, len(names), rows):
            cells += [names[k].strip(), _percent(iou[k])] + ([_percent(acc[k])] if acc is not None else [])
        table.add_row(*cells)
    return table


def _percent(fraction: float) -> str:
    return "–" if math.isnan(fraction) else f"{100 * fraction:.1f}"


def _train_parts(metrics: Mapping[str, float]) -> list[str]:
    """'loss 1.234', 'lr 5.9e-05', … of the metrics that are there."""
    patterns = {
        "train/loss": "loss {:.4g}",
        "train/lr": "lr {:.2e}",
        "train/grad_norm": "grad {:.3g}",
        "train/images_per_second": "{:.3g} images/s",
        "train/device_memory_gib": "{:.1f} GiB",
    }
    return [pattern.format(metrics[name]) for name, pattern in patterns.items() if name in metrics]


def _handlers() -> Iterator[logging.Handler]:
    """The handlers that a record of ours reaches."""
    place: logging.Logger | None = logger
    while place is not None:
        yield from place.handlers
        place = place.parent if place.propagate else None


def _writes_to_screen(handler: logging.Handler) -> bool:
    screens = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    return isinstance(handler, logging.StreamHandler) and handler.stream in screens


def _not_on_display(record: logging.LogRecord) -> bool:
    return not getattr(record, "on_display", False)
