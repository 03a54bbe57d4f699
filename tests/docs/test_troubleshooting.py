from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


def messages_listed() -> list[str]:
    text = (REPOSITORY / "docs/troubleshooting.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.+?) \| .+ \|$", text, re.MULTILINE)
    return [row for row in rows if row != "message"]


@functools.cache
def texts_in_the_code() -> str:
    found: list[str] = []
    for file in (*(REPOSITORY / "segnext").rglob("*.py"), *(REPOSITORY / "runners").glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    found += [file.read_text(encoding="utf-8") for file in (REPOSITORY / "segnext").rglob("*.cc")]
    return "\n".join(found)


@pytest.mark.parametrize("message", messages_listed())
def test_every_message_that_the_page_explains_is_in_the_code(message: str) -> None:
    code = texts_in_the_code()
    # what differs from file to file, and punctuation at which the code's texts are put together
    parts = re.split(r"\*.*?\*|…|;|: |'|, |\(|\)|\bJPEG\b|65535|\d+-bit|: Corrupt.*", message)
    for part in (part.strip() for part in parts if len(part.strip()) > 8):
        assert part in code, part
