"""The compile cache after accidents: two processes at once, a kill, a full disk, an update."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from segnext.backend import compiling
from segnext.errors import BackendError
from segnext.files import FileLock

REPOSITORY = Path(__file__).parents[2]
LONG = 300  # lines that keep the compiler busy for a while
WAIT = 600  # seconds; all that compiles, in other tests as well, takes turns
VALUES = "0.0 1.0 2.0"  # of three lines


def start(folder: Path, *, lines: int = 3, limit: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.backend.operators", folder, str(lines), str(limit)]
    return subprocess.Popen(
        command,
        cwd=REPOSITORY,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def result(child: subprocess.Popen[str]) -> str:
    said, complaint = child.communicate(timeout=WAIT)
    assert child.returncode == 0, complaint
    return said.splitlines()[-1]


def test_two_processes_that_need_the_same_operator_both_get_it(tmp_path: Path) -> None:
    both = [start(tmp_path) for _ in range(2)]
    assert {result(child) for child in both} == {VALUES}
    assert len(list((tmp_path / "jit").glob("*.so"))) == 1


def test_an_operator_whose_compilation_was_killed_is_compiled_again(tmp_path: Path) -> None:
    child = start(tmp_path, lines=LONG)
    family = psutil.Process(child.pid)
    while not any(process.name() == "cc1plus" for process in family.children(recursive=True)):
        assert child.poll() is None
        time.sleep(0.01)
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate()
    assert not list((tmp_path / "jit").glob("*.key"))
    assert result(start(tmp_path, lines=LONG))


def test_a_full_disk_is_named_and_leaves_the_cache_usable(tmp_path: Path) -> None:
    child = start(tmp_path, limit=4096)
    _, complaint = child.communicate(timeout=WAIT)
    assert child.returncode == 1
    assert "could not compile an operator: the disk of" in complaint
    assert "is full" in complaint
    assert result(start(tmp_path)) == VALUES


@pytest.fixture
def builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the process that builds the core: what it does is to be written to the file returned."""
    path = tmp_path / "python"
    monkeypatch.setattr(sys, "executable", str(path))
    monkeypatch.setattr(compiling, "log_path", lambda: tmp_path / "log")
    monkeypatch.setattr(compiling, "_EVERY", 0.05)
    return path


def write(builder: Path, script: str) -> None:
    builder.write_text(f"#!/bin/sh\necho built >> {builder.parent}/calls\nstamp=$4 state=$5\n{script}\n")
    builder.chmod(0o755)


def calls(builder: Path) -> int:
    return len((builder.parent / "calls").read_text().splitlines())


def test_processes_that_start_together_build_the_core_once_and_all_say_how_far_it_is(
    tmp_path: Path, builder: Path
) -> None:
    write(builder, 'printf "3 of 16 parts, about 40 s left" > "$state"; sleep 0.5; touch "$stamp"')
    said: list[list[str]] = [[], []]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda lines: compiling.compile_core(tmp_path / "stamp", lines.append, "cpu"), said))
    assert calls(builder) == 1
    for lines in said:
        assert "for the first time" in lines[0]
        assert any(line.startswith("Compiling Jittor's core: 3 of 16 parts, about 40 s left (") for line in lines)


def test_a_core_that_wants_to_be_started_again_is(tmp_path: Path, builder: Path) -> None:
    write(builder, f'[ $(wc -l < {tmp_path}/calls) = 1 ] || touch "$stamp"')  # Jittor ends with code 0 then
    compiling.compile_core(tmp_path / "stamp", None, "cpu")
    assert calls(builder) == 2


def test_a_core_that_fails_for_want_of_space_says_so(tmp_path: Path, builder: Path) -> None:
    write(builder, 'echo "as: core.o: No space left on device" >&2; exit 1')
    with pytest.raises(BackendError, match=r"core could not be compiled: the disk of .* is full"):
        compiling.compile_core(tmp_path / "stamp", None, "cpu")


def test_a_core_that_fails_otherwise_names_the_log(tmp_path: Path, builder: Path) -> None:
    write(builder, 'echo "error: expected ;" >&2; exit 1')
    with pytest.raises(BackendError, match=f"the compiler's output is in {tmp_path}/log"):
        compiling.compile_core(tmp_path / "stamp", None, "cpu")


KILLED = """
import sys
from pathlib import Path
from segnext.backend.compiling import compile_core
sys.executable = sys.argv[1]
compile_core(Path(sys.argv[2]), None, "cpu")
"""


def test_nobody_builds_beside_a_compiler_whose_parent_was_killed(tmp_path: Path, builder: Path) -> None:
    write(builder, f"while [ ! -e {tmp_path}/end ]; do sleep 0.05; done")
    python = os.path.realpath("/proc/self/exe")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])}
    command = [python, "-c", KILLED, str(builder), str(tmp_path / "stamp")]
    parent = subprocess.Popen(command, env=environment)
    while not (tmp_path / "calls").exists():
        assert parent.poll() is None
        time.sleep(0.01)
    parent.kill()
    parent.wait()
    assert FileLock.take(tmp_path / "core.lock") is None
    (tmp_path / "end").touch()
    while FileLock.take(tmp_path / "core.lock") is None:
        time.sleep(0.01)
