"""Writing to a screen that is gone."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from segnext.screen import open_screen, shown

LINES = """
from segnext.screen import lasting_screen
lasting_screen()
for number in range(10_000):
    print(number, "\\u2192")
assert open("/dev/null").fileno() > 2
"""


def test_a_reader_that_has_ended_does_not_end_the_writer() -> None:
    read, write = os.pipe()
    os.close(read)
    with open_screen(write) as screen:
        print("one", file=screen)
        print("two", file=screen)
    os.close(write)


def test_a_name_is_shown_in_letters_alone() -> None:
    assert shown("f\u00e9e 1") == "f\u00e9e 1"
    assert shown("caf\udce9\n\x1b[2J") == r"caf\udce9\n\x1b[2J"


@pytest.mark.parametrize("shell", ["{} | head -1", "{} >&-", "{} >&- 2>&- <&-", "LC_ALL=C {} >/dev/null"])
def test_work_goes_on_to_its_end_without_a_word(shell: str) -> None:
    program = shell.format(f"{sys.executable} -c '{LINES}'")
    done = subprocess.run(["bash", "-o", "pipefail", "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
