"""The command `segnext`: its answers, its completion in a real bash, and the installed package."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import segnext
from segnext.app.console import chosen_verb
from segnext.app.schema import VERBS

ROOT = Path(__file__).parents[2]
PROMPT = "ready> "


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with the program `segnext` as pip would make it, but of these sources."""
    program = tmp_path / "bin/segnext"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT / "runners"}" "$@"\n')
    program.chmod(0o755)
    return program.parent


def segnext_says(*arguments: str, code: int = 0, cwd: Path = ROOT) -> str:
    command = [sys.executable, str(ROOT / "runners"), *arguments]
    done = subprocess.run(command, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    assert done.returncode == code, done.stdout
    return done.stdout


def test_help_lists_every_verb_with_a_line_that_fits_a_terminal() -> None:
    lines = segnext_says("--help").splitlines()
    explained = [line.split(maxsplit=1) for line in lines if line.strip().split(" ")[0] in VERBS]
    assert {verb for verb, _ in explained} == set(VERBS)
    assert all(len(text) > 10 for _, text in explained)
    assert max(map(len, lines)) <= 80
    assert segnext_says().splitlines() == lines


def test_the_board_is_the_live_report_over_all_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    for given, meant in (([], ["outputs", "live=true"]), (["a", "port=80"], ["a", "port=80", "live=true"])):
        monkeypatch.setattr(sys, "argv", ["segnext", "board", *given])
        assert chosen_verb({"report": ROOT / "runners/report.py"}) == "report"
        assert sys.argv[1:] == meant


def test_the_version_is_the_library_s() -> None:
    assert segnext_says("--version") == f"segnext {segnext.__version__}\n"


@pytest.mark.parametrize("arguments", [["trian"], ["completion", "tcsh"], ["completion"]])
def test_what_is_no_verb_is_refused_with_a_cure_that_works(arguments: list[str]) -> None:
    said = segnext_says(*arguments, code=2)
    assert said.startswith(f"error: {' '.join(arguments)}")
    assert "`segnext --help`" in said


def test_a_verb_is_what_the_runner_of_its_name_is() -> None:
    runner = subprocess.run(
        [sys.executable, "-m", "runners.prepare", "--cfg", "job"], cwd=ROOT, text=True, capture_output=True, check=True
    )
    assert segnext_says("prepare", "--cfg", "job") == runner.stdout


class Bash:
    """An interactive bash in a terminal of its own."""

    def __init__(self, path: Path) -> None:
        pid, self.terminal = pty.fork()
        if pid == 0:
            environment = {**os.environ, "PATH": f"{path}:{os.environ['PATH']}", "PS1": PROMPT, "TERM": "dumb"}
            os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], environment)
        self.pid = pid
        self.read_until(PROMPT)

    def send(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def read_until(self, pattern: str, *, timeout: float = 60) -> str:
        seen, deadline = "", time.monotonic() + timeout
        while not re.search(pattern, seen):
            ready, _, _ = select.select([self.terminal], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"no {pattern!r} in {seen!r}"
            seen += os.read(self.terminal, 4096).decode(errors="replace")
        return seen

    def close(self) -> None:
        os.close(self.terminal)
        os.waitpid(self.pid, 0)


@pytest.fixture
def bash(programs: Path) -> Iterator[Bash]:
    shell = Bash(programs)
    shell.send('eval "$(segnext completion bash)"\n')
    shell.read_until(f"\n{PROMPT}")
    yield shell
    shell.close()


def test_bash_completes_verbs_options_and_settings(bash: Bash) -> None:
    bash.send("segnext ev\t")
    bash.read_until("segnext evaluate")
    bash.send(" dataset=cam\t")
    bash.read_until("dataset=camvid")
    bash.send(" dataset.max_mega\t")
    bash.read_until("dataset.max_megapixels=")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built and installed into a folder without its dependencies."""
    sources, site = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("site")
    for name in ("segnext", "runners", "conf", "hydra_plugins"):
        shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources)
    pip = [sys.executable, "-m", "pip", "install", "-qq", "--no-deps", "--no-build-isolation", "--target", str(site)]
    subprocess.run([*pip, str(sources)], check=True, capture_output=True)
    return site


def test_the_installed_package_works_where_others_of_its_names_lie(installed: Path, tmp_path: Path) -> None:
    for package in ("conf", "runners"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise ImportError('not this one')\n")

    def run(*command: str) -> str:
        done = subprocess.run(
            command, cwd=tmp_path, text=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(installed)}
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    program = str(installed / "bin/segnext")
    assert "name: shapes" in run(program, "train", "dataset=shapes", "--cfg", "job")
    sweep = run(program, "train", "-m", "dataset=shapes", "seed=0,1", "schedule=demo", "sweep.dry_run=true")
    assert "2 jobs" in sweep
    ask = "from segnext.files import runner_command; print(*runner_command('train'), sep='\\n')"
    started = run(sys.executable, "-c", ask).splitlines()  # how a sweep starts its jobs
    assert str(installed) in started[1]
    assert (installed / "segnext/py.typed").is_file()
    assert "name: shapes" in run(*started, "dataset=shapes", "--cfg", "job")
