"""The core from units, with a stand-in for the compiler: what is said on the way, and what an accident leaves."""

from __future__ import annotations

import os
import pickle
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from segnext.backend import core

# Copies the source to the object, in two pieces with a pause between; not on a full disk.
COMPILER = """#!/bin/sh
here=$(dirname "$0")
echo "$1" >> "$here/calls"
head -c 3 "$1" > "$4"
[ -e "$here/full" ] && { echo "$4: No space left on device" >&2; exit 1; }
case "$1" in *empty.cc) ;; *) sleep "$(cat "$here/seconds")";; esac
cp "$1" "$4"
"""
FILES = ("src/ops/one.cc", "src/ops/two.cc", "src/opt/pass.cc", "src/node.cc", "src/op_utils.cc")


@pytest.fixture
def commands(tmp_path: Path) -> list[tuple[str, ...]]:
    """Jittor's commands for five files, which lie in four units."""
    compiler = tmp_path / "g++"
    compiler.write_text(COMPILER)
    compiler.chmod(0o755)
    (tmp_path / "seconds").write_text("0")
    (tmp_path / "cache/obj_files").mkdir(parents=True)
    given = []
    for name in FILES:
        source = tmp_path / name
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(f"int {source.stem};\n")
        given.append((str(compiler), str(source), "-O2", "-o", str(tmp_path / f"cache/obj_files/{source.name}.o")))
    return given


def calls(folder: Path) -> int:
    return len((folder / "calls").read_text().splitlines())


def whole(commands: list[tuple[str, ...]]) -> bool:
    """Whether the objects hold every file once: that of a unit's first file includes the others."""
    text = "".join(core._object(command).read_text() for command in commands)
    return all(text.count(f'#include "{command[1]}"') == 1 for command in commands)


def test_the_time_that_is_left_is_said_from_the_start_and_while_no_unit_is_finished(
    tmp_path: Path, commands: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "seconds").write_text("0.3")
    monkeypatch.setattr(core, "_REPORT_EVERY", 0.05)
    said: list[str] = []
    core._compile_units(commands, tmp_path / "cache", said.append)
    before = [
        int(found[1]) for found in (re.match(r"0 of 4 parts, about (\d+) s left", text) for text in said) if found
    ]
    assert len(before) >= 3
    assert before[0] > 0
    assert said[-1] == "4 of 4 parts, linking them"


def test_of_extensions_the_files_that_are_compiled_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "_REPORT_EVERY", 0.02)
    said: list[str] = []
    command = f'"g++" "{tmp_path}/{{0}}.cc" -c -o "{tmp_path}/{{0}}.o"'

    def compile_all(commands: list[str], *others: str) -> None:
        (tmp_path / "1.o").touch()
        while not any(text.startswith("an extension, 1 of 2 parts, about") for text in said):
            time.sleep(0.01)

    utilities = SimpleNamespace(run_cmd=None, run_cmds=compile_all)
    core.gather_core(utilities, said.append)
    utilities.run_cmds([command.format(1), command.format(2)], "", "", "Compiling gen_ops_mkl")
    assert said


def test_a_slow_machine_lengthens_the_time_that_is_left() -> None:
    def unit(seconds: float, *times: float) -> core._Unit:
        return core._Unit("unit", "-O2", seconds, (), list(times))

    ahead = unit(20.0)
    normal = core._seconds_left([unit(5.0, 0.0, 5.0), ahead])
    assert core._seconds_left([unit(5.0, 0.0, 15.0), ahead]) == 3 * normal
    assert core._seconds_left([unit(5.0, time.monotonic() - 15.0), ahead]) >= 3 * normal  # takes longer than it should


def test_units_that_are_compiled_are_not_compiled_again(tmp_path: Path, commands: list[tuple[str, ...]]) -> None:
    core._compile_units(commands, tmp_path / "cache", None)
    before = calls(tmp_path)
    core._compile_units(commands, tmp_path / "cache", None)
    assert calls(tmp_path) == before
    assert whole(commands)


def test_a_changed_source_compiles_them_again(tmp_path: Path, commands: list[tuple[str, ...]]) -> None:
    core._compile_units(commands, tmp_path / "cache", None)
    before = calls(tmp_path)
    Path(commands[0][1]).write_text("int changed;\n")
    core._compile_units(commands, tmp_path / "cache", None)
    assert calls(tmp_path) > before


def test_a_full_disk_ends_it_and_leaves_nothing_that_counts_as_compiled(
    tmp_path: Path, commands: list[tuple[str, ...]]
) -> None:
    (tmp_path / "full").touch()
    with pytest.raises(subprocess.CalledProcessError):
        core._compile_units(commands, tmp_path / "cache", None)
    (tmp_path / "full").unlink()
    core._compile_units(commands, tmp_path / "cache", None)
    assert whole(commands)


KILLED = """
import pickle, sys
from pathlib import Path
from types import SimpleNamespace
from segnext.backend import core
core._compile_units(pickle.loads(bytes.fromhex(sys.argv[1])), Path(sys.argv[2]), None)
"""


def test_a_killed_build_is_made_again(tmp_path: Path, commands: list[tuple[str, ...]]) -> None:
    (tmp_path / "seconds").write_text("30")
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, pickle.dumps(commands).hex(), str(tmp_path / "cache")], start_new_session=True
    )
    while not any(core._object(command).exists() for command in commands):  # half an object
        assert child.poll() is None
        time.sleep(0.02)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    (tmp_path / "seconds").write_text("0")
    core._compile_units(commands, tmp_path / "cache", None)
    assert whole(commands)


def test_the_generated_source_is_compiled_beside_the_units(tmp_path: Path, commands: list[tuple[str, ...]]) -> None:
    cache, source, target = tmp_path / "cache", tmp_path / "cache/data.cc", tmp_path / "cache/data.o"
    source.write_text("int data;\n")
    utilities = SimpleNamespace(run_cmd=None, run_cmds=None)
    core.gather_core(utilities)
    utilities.run_cmd(f'"{commands[0][0]}" "{source}" -O2 -o "{target}"')
    source.unlink()  # as Jittor does
    assert not target.exists()
    utilities.run_cmds([shlex.join(command) for command in commands], str(cache), "", "Compiling jittor_core")
    assert "data.cc" in target.read_text()
    assert whole(commands)
