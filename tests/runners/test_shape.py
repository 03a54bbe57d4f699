"""Verbs are short: what they do lies in the rooms."""

from __future__ import annotations

from pathlib import Path

import runners
import segnext

RUNNERS = sorted(Path(runners.__file__).parent.glob("*.py"))
ALL = [*RUNNERS, *sorted(Path(segnext.__file__).parent.rglob("*.py"))]


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_a_verb_reads_from_top_to_bottom_in_at_most_120_lines() -> None:
    assert [path.name for path in RUNNERS if lines(path) > 120] == []
    assert sum(map(lines, RUNNERS)) <= 900


def test_no_file_is_longer_than_400_lines() -> None:
    assert [path.name for path in ALL if lines(path) > 400] == []
