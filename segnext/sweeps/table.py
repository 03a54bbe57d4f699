"""The jobs of a sweep on the terminal: a live table, plain lines where there is no terminal, and a summary."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from segnext.sweeps.job import Job, Record

__all__ = ["SweepDisplay", "print_summary"]

WIDTH = 80
QUIET_SECONDS = 8.0  # of silence at most where there is no terminal
REFRESH_SECONDS = 1.0
_STYLES = {"finished": "green", "failed": "bold red", "running": "cyan", "interrupted": "yellow", "pruned": "magenta"}


class SweepDisplay:
    """Shows the states of ``jobs`` within its ``with`` block."""

    def __init__(self, jobs: Sequence[Job], *, console: Console) -> None:
        self._jobs = {job.name: job for job in jobs}
        self._records: dict[str, Record] = {}
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._next_refresh = 0.0

    def __enter__(self) -> SweepDisplay:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, record: Record) -> None:
        """Shows a job's new state."""
        before = self._records.get(record.job)
        self._records[record.job] = record
        if self._live is not None:
            self._refresh()
        elif record.state != "pending" and (before is not None or record.state == "finished"):
            self._say(_line(record, known=before is not None))

    def tick(self) -> None:
        """Brings the progress of running jobs up to date: each second, or by a line where nothing was said for long."""
        if time.monotonic() < self._next_refresh:
            return
        if self._live is not None:
            self._refresh()
        elif running := [record for record in self._records.values() if record.state == "running"]:
            left = sum(record.state == "pending" for record in self._records.values())
            jobs = (f"{record.job} {_progress(self._jobs[record.job], record)}".strip() for record in running)
            self._say(Text(f"running: {', '.join(jobs)}; {left} to come"))

    def _say(self, line: Text) -> None:
        self._next_refresh = time.monotonic() + QUIET_SECONDS
        self._console.print(line, highlight=False, soft_wrap=True)

    def _refresh(self) -> None:
        assert self._live is not None
        self._next_refresh = time.monotonic() + REFRESH_SECONDS
        self._live.update(self._table(), refresh=True)

    def _table(self) -> Table:
        records = list(self._records.values())
        counts = Counter(record.state for record in records)
        table = _empty_table("  ".join(f"{counts[state]} {state}" for state in sorted(counts)), progress=True)
        room = max(5, self._console.height - 8)
        # What runs and what went wrong matter most when not all fit.
        urgency = ["running", "failed", "interrupted", "pending", "finished", "pruned"]
        shown = sorted(records, key=lambda r: urgency.index(r.state))[:room]
        for record in shown:
            job = self._jobs[record.job]
            progress = _progress(job, record)
            table.add_row(Text(record.job), _state(record), progress, _percent(record.best_mIoU), _why(record))
        if len(records) > room:
            table.add_row(f"… and {len(records) - room} more", "", "", "", "")
        return table


def print_summary(records: Sequence[Record], *, console: Console) -> None:
    """Prints what became of every job, within 80 columns."""
    table = _empty_table(None, progress=False)
    for record in records:
        table.add_row(Text(record.job), _state(record), _percent(record.best_mIoU), _why(record))
    width = min(console.width, WIDTH) if console.is_terminal else WIDTH
    console.print(table, width=width)


def _empty_table(caption: str | None, *, progress: bool) -> Table:
    table = Table(caption=caption, caption_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("job", overflow="fold", max_width=36)
    table.add_column("state", no_wrap=True)
    if progress:
        table.add_column("iteration", justify="right", no_wrap=True)
    table.add_column("best\nmIoU %", justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    return table


def _state(record: Record) -> Text:
    return Text(record.state, style=_STYLES.get(record.state, "dim"))


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{100 * fraction:.2f}"


def _why(record: Record) -> Text:
    attempts = f" ({record.attempts} attempts)" if record.attempts > 1 and record.state != "finished" else ""
    return Text(f"{record.error or ''}{attempts}".strip())


def _line(record: Record, *, known: bool) -> Text:
    text = Text(f"{record.job}: ").append(_state(record))
    if record.state == "finished" and not known:
        text.append(" before")
    if record.state == "running":
        text.append(f", attempt {record.attempts}" if record.attempts > 1 else "")
    if record.best_mIoU is not None:
        text.append(f", best mIoU {_percent(record.best_mIoU)} %")
    if record.error and record.state != "running":
        text.append(f": {record.error}")
    return text


def _progress(job: Job, record: Record) -> str:
    if record.state != "running":
        return ""
    iteration = _last_iteration(job.folder / "events.jsonl")
    total = job.settings.get("iterations")
    return "" if iteration is None else f"{iteration}/{total}" if total else str(iteration)


def _last_iteration(events: Path) -> int | None:
    """The iteration of the last whole record, from the end of the file alone: it may be long."""
    try:
        with events.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 65536))
            lines = file.read().splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        try:
            return int(json.loads(line)["iteration"])
        except (ValueError, TypeError, KeyError):
            continue
    return None
