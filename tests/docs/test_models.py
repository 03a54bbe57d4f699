"""The documentation says what the commands print."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def table_rows(text: str) -> list[list[str]]:
    """The cells of every row of the Markdown tables in ``text``."""
    rows = (line.strip().strip("|").split("|") for line in text.splitlines() if line.strip().startswith("|"))
    return [[cell.strip() for cell in row] for row in rows]


def test_the_profile_table_is_what_the_command_prints() -> None:
    arguments = ["-m", "model=tiny,small,base,large", "dataset=ade,cityscapes", "format=markdown"]
    command = [sys.executable, "-m", "runners.profile", *arguments]
    printed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    printed_rows = [row for row in table_rows(printed) if row[0] in ("tiny", "small", "base", "large")]
    page_rows = table_rows((REPOSITORY / "docs/models.md").read_text(encoding="utf-8"))
    assert len(printed_rows) == 8
    assert [row for row in page_rows if row in printed_rows] == printed_rows
