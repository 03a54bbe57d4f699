"""What the user sees of a run: two live lines on a terminal, plain log lines anywhere else, always ``train.log``.

The live display fits 80 columns. With TERM=dumb or output that is no terminal, every record is one line, and what is
going on is said when nothing else was for some seconds.
Scores are fractions in the records and per cent here.
"""

from __future__ import annotations

import contextlib
import logging
import math
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
from rich.console import Console
from rich.file_proxy import FileProxy
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from segnext.progress import repeatedly
from segnext.tracking.events import Event

__all__ = ["Pace", "ProgressDisplay", "compiling", "duration"]

logger = logging.getLogger("segnext.progress")

_SILENCE = 10.0  # seconds after which a line says what is going on
_WINDOW = 50  # steps over which the pace is measured
_COMPILERS = frozenset({"g++", "c++", "clang++", "cc1plus", "as", "ld", "nvcc", "cicc", "ptxas", "cudafe++"})


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


def compiling() -> str:
    """ "compiling operators" while a compiler works for this process, else nothing."""
    try:
        names = {child.name() for child in psutil.Process().children(recursive=True)}
    except psutil.Error:  # a compiler has ended meanwhile
        return ""
    return "compiling operators" if names & _COMPILERS else ""


class Pace:
    """What a step and an evaluation take, in seconds; nan before it is known."""

    def __init__(self) -> None:
        self._steps: deque[float] = deque(maxlen=_WINDOW)
        self._last: tuple[int, float] | None = None
        self.evaluation = math.nan

    @property
    def step(self) -> float:
        """The median, so that a step which compiles or waits does not count."""
        return statistics.median(self._steps) if self._steps else math.nan

    def take(self, iteration: int, time: float) -> None:
        """A step has ended."""
        if self._last is not None and iteration > self._last[0]:
            self._steps.append(max(0.0, time - self._last[1]) / (iteration - self._last[0]))
        if self._last is None or iteration > self._last[0]:
            self._last = iteration, time

    def restart(self, iteration: int, time: float) -> None:
        """Something else than steps has taken the time until now."""
        self._last = iteration, time

    def forget(self) -> None:
        self._steps.clear()
        self._last = None


class ProgressDisplay:
    """Shows the records of a run to its user.

    Args:
        total_iterations: optimizer steps of the whole run.
        evaluation_interval: steps between two evaluations, which are part of the time left; None where there are none.
        title: names the run, for example "tiny on shapes".
        log_file: gets every line too, unless logging already writes there (Hydra's set-up does).
        console: where to draw; standard output by default.
        compiling: says what is being compiled at the moment, an empty text for nothing.
    """

    def __init__(
        self,
        *,
        total_iterations: int,
        title: str = "",
        evaluation_interval: int | None = None,
        log_file: Path | None = None,
        console: Console | None = None,
        compiling: Callable[[], str] = compiling,
    ) -> None:
        self.console = console or Console(markup=False, emoji=False, soft_wrap=True, highlight=False)
        self.live = self.console.is_terminal and not self.console.is_dumb_terminal
        self._total = total_iterations
        self._title = title
        self._log_file = log_file
        self._evaluation_interval = evaluation_interval
        self._compiling = compiling
        self._pace = Pace()
        self._evaluated: tuple[int, int] | None = None  # images done and in all, while an evaluation runs
        self._first_evaluated = (0, 0.0)  # images done when the first group was, and the time
        self._said = time.monotonic()
        self._heartbeat = contextlib.ExitStack()
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
        self._pace.forget()  # an earlier session says nothing about today's pace
        self._add_handlers()
        self._said = time.monotonic()
        if not self.live:
            self._heartbeat.enter_context(repeatedly(1.0, self._break_silence))
        else:
            self._live = Live(self, console=self.console, refresh_per_second=4, redirect_stderr=True)
            self._live.start()
            self._send_log_lines_above()

    def show(self, event: Event) -> None:
        """Shows one record."""
        self._take(event)
        line = self._line(event)
        if line:
            self._say(line, on_display=event.kind == "train")

    def step(self, iteration: int) -> None:
        """Moves the bar: a step has ended."""
        self._iteration = iteration
        self._pace.take(iteration, time.time())

    def evaluating(self, done: int, total: int) -> None:
        """Shows how far an evaluation is, in images; the record of its scores ends it."""
        if self._evaluated is None:
            self._first_evaluated = done, time.time()
        self._evaluated = done, total

    def note(self, text: str) -> None:
        """Shows what is going on between two records ("evaluating 120/500") on a terminal; an empty text clears it."""
        self._note = text

    def stop(self) -> None:
        """Leaves the last state on the screen and puts logging back as it was; may be called twice."""
        self._note = ""
        self._heartbeat.close()
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
            self._pace.take(event.iteration, event.time)
        if "val/mIoU" in event.metrics:
            self._miou = event.metrics["val/mIoU"]
            if not self._miou <= self._best and not math.isnan(self._miou):
                self._best, self._best_iteration = self._miou, event.iteration
            if self._evaluated is not None:
                self._evaluated = self._evaluated[1], self._evaluated[1]
                self._pace.evaluation = self._whole_evaluation(event.time)
                self._evaluated = None
            self._pace.restart(event.iteration, event.time)

    def _whole_evaluation(self, now: float) -> float:
        """Seconds of an evaluation, by the pace after its first group of images, whose time goes into compiling."""
        assert self._evaluated is not None
        (done, total), (first, since) = self._evaluated, self._first_evaluated
        return (now - since) * total / (done - first) if done > first else math.nan

    def _seconds_left(self) -> float:
        """The steps that are left and the evaluations between and after them; nan before the pace is known."""
        steps = max(0, self._total - self._iteration)
        seconds = steps * self._pace.step if steps else 0.0
        if self._evaluation_interval is not None:
            interval = self._evaluation_interval
            evaluations = self._total // interval - self._iteration // interval + (self._total % interval > 0 < steps)
            evaluation = self._pace.evaluation
            if self._evaluated is not None:
                done, total = self._evaluated
                if done > self._first_evaluated[0]:
                    evaluation = self._whole_evaluation(time.time())
                seconds += evaluation * (total - done) / max(total, 1)
            seconds += evaluations * evaluation if evaluations and not math.isnan(evaluation) else 0.0
        return seconds

    def _time_left(self) -> str:
        seconds = self._seconds_left()
        return "" if math.isnan(seconds) else f"{duration(seconds)} left"

    def _activity(self) -> str:
        """What is going on between two records."""
        if self._note:
            return self._note
        if self._evaluated is not None:
            return "evaluating {}/{}".format(*self._evaluated)
        return self._compiling()

    def _break_silence(self) -> None:
        if time.monotonic() - self._said > _SILENCE:
            what = self._activity() or "training"
            self._say("  ".join(filter(None, [f"{self._iteration}/{self._total}", what, self._time_left()])))

    def _say(self, line: str, *, on_display: bool = False) -> None:
        self._said = time.monotonic()
        logger.info(line, extra={"on_display": on_display})

    def _line(self, event: Event) -> str:
        width = len(str(self._total))
        head = f"{event.iteration:>{width}}/{self._total}"
        if event.kind == "train":
            return "  ".join(filter(None, [head, *_train_parts(event.metrics), self._time_left()]))
        if "val/mIoU" in event.metrics:
            scores = [
                f"{n[4:]} {100 * v:.2f}" for n, v in event.metrics.items() if n.startswith("val/") and n.count("/") == 1
            ]
            return f"{head}  val: {'  '.join(scores)} %  (best {100 * self._best:.2f} at {self._best_iteration})"
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
        page = Table.grid(expand=True)
        page.add_row(first)
        page.add_row(self._figures() if self._note or self._evaluated is None else self._evaluation_bar())
        return page

    def _figures(self) -> Text:
        """The latest record and score, or what is going on before there is any."""
        figures = {name: value for name, value in self._train.items() if name != "train/device_memory_gib"}
        parts = _train_parts(figures)
        if not math.isnan(self._miou):
            parts.append(f"mIoU {100 * self._miou:.1f} % (best {100 * self._best:.1f} %)")
        if activity := self._activity():
            parts = [*parts[:1], *parts[-1:], activity] if len(parts) > 1 else [*parts, activity]
        return Text("  ".join(parts) or "starting", no_wrap=True, overflow="ellipsis")

    def _evaluation_bar(self) -> Table:
        assert self._evaluated is not None
        done, total = self._evaluated
        row = Table.grid(padding=(0, 1), expand=True)
        row.add_column(no_wrap=True)
        row.add_column(ratio=1)
        row.add_column(no_wrap=True, justify="right")
        best = "" if math.isnan(self._best) else f"  best mIoU {100 * self._best:.1f} %"
        row.add_row("evaluating", ProgressBar(total=total, completed=done, width=None), f"{done}/{total}{best}")
        return row

    # Where log lines go

    def _add_handlers(self) -> None:
        target = logging.getLogger("segnext")
        present = list(_handlers())
        paths = {Path(h.baseFilename) for h in present if isinstance(h, logging.FileHandler)}
        if self._log_file is not None and self._log_file.absolute() not in paths:
            file = logging.FileHandler(self._log_file, encoding="utf-8", errors="backslashreplace")
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
