from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

import segnext.progress
from segnext.progress import progress


def wait_for(text: str, page: io.StringIO) -> None:
    deadline = time.monotonic() + 20
    while text not in page.getvalue():
        assert time.monotonic() < deadline, page.getvalue()
        time.sleep(0.005)


def test_without_a_terminal_lines_say_how_far_the_work_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segnext.progress, "_EVERY", 0.01)
    page = io.StringIO()
    with progress(Console(file=page, width=30), "evaluating [val]", 500) as report:
        wait_for("evaluating [val]: 0 of 500 in 0 s\n", page)
        report(12)
        wait_for("evaluating [val]: 12 of 500", page)
        report(3, 40, "checking")
        wait_for("checking: 3 of 40", page)
    said = page.getvalue()
    time.sleep(0.05)
    assert page.getvalue() == said


def test_bytes_are_said_in_their_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segnext.progress, "_EVERY", 0.01)
    page = io.StringIO()
    with progress(Console(file=page), "tiny.pkl", of_bytes=True) as report:
        report(2_500_000, 16_000_000)
        wait_for("tiny.pkl: 2.5 MB of 16.0 MB", page)


def test_work_that_is_done_at_once_leaves_no_line() -> None:
    page = io.StringIO()
    with progress(Console(file=page), "evaluating", 3) as report:
        report(3)
    assert page.getvalue() == ""


def test_a_terminal_shows_a_bar_that_goes_when_the_work_is_done() -> None:
    page = io.StringIO()
    console = Console(file=page, force_terminal=True, width=80, legacy_windows=False)
    with progress(console, "evaluating [val]", 500) as report:
        report(12)
    assert "evaluating [val]" in page.getvalue()
    assert "12/500" in page.getvalue()
    assert page.getvalue().endswith("\x1b[2K")
