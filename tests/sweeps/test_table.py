from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from segnext.sweeps.job import Job, Record
from segnext.sweeps.table import SweepDisplay, print_summary
from segnext.tracking.events import Event, EventLog

LONG = "error " * 60
RECORDS = [
    Record("large_cityscapes_seed-0_lr-0.00012345-0a1b2c", Path(), "finished", 0, best_mIoU=0.81234, attempts=1),
    Record("tiny-1", Path(), "failed", None, "SIGKILL", "killed by SIGKILL (out of memory?)", attempts=2),
    Record("tiny-2", Path(), "failed", 1, error=LONG, attempts=1),
    Record("[bold]-3", Path(), "pending"),
]


def summary(width: int) -> str:
    out = io.StringIO()
    print_summary(RECORDS, console=Console(file=out, width=width))
    return out.getvalue()


def test_the_summary_says_state_score_and_reason_of_every_job() -> None:
    text = " ".join(summary(80).split())
    assert "finished 81.23" in text
    assert "killed by SIGKILL (out of memory?) (2 attempts)" in text
    assert "[bold]-3 pending" in text


def test_the_summary_fits_80_columns_and_cuts_nothing() -> None:
    lines = summary(200).splitlines()
    assert max(map(len, lines)) <= 80
    assert "".join(lines).count("error") == 60


def test_without_a_terminal_every_change_is_one_line() -> None:
    out = io.StringIO()
    job = Job("tiny-1", (), Path())
    with SweepDisplay([job], console=Console(file=out, width=80)) as display:
        for record in (
            Record("tiny-1", Path()),
            Record("tiny-1", Path(), "running", attempts=2),
            Record("tiny-1", Path(), "failed", 3, error="out of luck", best_mIoU=0.5),
        ):
            display.update(record)
            display.tick()
    assert out.getvalue().splitlines() == [
        "tiny-1: running, attempt 2",
        "tiny-1: failed, best mIoU 50.00 %: out of luck",
    ]


def test_without_a_terminal_a_long_silence_is_broken_by_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    with SweepDisplay([Job("tiny-1", (), Path())], console=Console(file=out, width=80)) as display:
        display.update(Record("tiny-1", Path()))
        display.update(Record("tiny-2", Path()))
        display.update(Record("tiny-1", Path(), "running", attempts=1))
        display.tick()
        monkeypatch.setattr("segnext.sweeps.table.QUIET_SECONDS", 0.0)
        display.update(Record("tiny-1", Path(), "running", attempts=1))
        display.tick()
    assert out.getvalue().splitlines().count("running: tiny-1; 1 to come") == 1


def test_a_terminal_shows_progress_within_80_columns(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    log.append(Event(120, "train", {"train/loss": 1.0}))
    log.close()
    out = io.StringIO()
    jobs = [Job(record.job, (), tmp_path, {"iterations": 300}) for record in RECORDS]
    console = Console(file=out, width=80, height=40, force_terminal=True, color_system=None)
    with SweepDisplay(jobs, console=console) as display:
        for record in RECORDS:
            display.update(record)
        display.update(Record("tiny-1", tmp_path, "running", attempts=1))
    assert "120/300" in out.getvalue()
    assert "1 failed  1 finished  1 pending  1 running" in out.getvalue()
