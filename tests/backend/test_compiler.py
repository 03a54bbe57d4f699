"""The launcher before the compiler: the same code with precompiled headers, and never in the way."""

from __future__ import annotations

import ctypes
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from segnext import backend
from segnext.backend.compile_cache import CompileCache
from segnext.backend.compiler import Compiler, find_compiler
from segnext.backend.core import _joined


@pytest.fixture(scope="module")
def compiler() -> Compiler:
    return Compiler.of_this_machine()


@pytest.fixture
def launcher() -> Path:
    """The one that all share, with its header."""
    backend.start("cpu")
    return CompileCache.of_this_machine("cpu").compiler


def operator_command(launcher: Path) -> list[str]:
    """Jittor's own command line for an operator that a test has compiled, without what comes before the flags."""
    jt = backend.start("cpu")
    (jt.array([1.5, 2.5]) * 3).numpy()
    keys = sorted(Path(jt.flags.cache_path, "jit").glob("*_op.so.key"), key=os.path.getmtime)
    command = shlex.split(keys[-1].read_text().splitlines()[0])
    flags = next(i for i, word in enumerate(command) if word.startswith("--cc_path="))
    return [str(launcher), *command[flags + 1 :]]


def compiled(command: list[str], output: Path) -> bytes:
    output.parent.mkdir(exist_ok=True)
    subprocess.run([*command[: command.index("-o")], "-o", str(output)], check=True)
    return output.read_bytes()


def test_an_operator_is_the_same_to_the_bit_with_and_without_the_header(
    tmp_path: Path, launcher: Path, compiler: Compiler
) -> None:
    command = operator_command(launcher)
    with_header = compiled(command, tmp_path / "first" / "one_op.so")
    assert list(launcher.parent.glob("*/operators.h.gch"))
    assert with_header == compiled([compiler.path, *command[1:]], tmp_path / "second" / "one_op.so")


def test_three_training_steps_are_the_same_to_the_bit_with_and_without_the_header(
    tmp_path: Path, launcher: Path, compiler: Compiler
) -> None:
    without = compiler.launcher(tmp_path)
    assert without is not None
    (without.parent / "operators.h").write_text("#error no header\n")
    folder = tmp_path / "without"
    folder.mkdir()
    said = []
    for arguments in ([], [folder, without]):
        command = [sys.executable, "-m", "tests.backend.three_steps", *arguments]
        done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert list(launcher.parent.glob("*/operators.h.gch"))
    assert list(without.parent.glob("*/failed"))
    anew = {path.name for path in (folder / "jit").glob("*.so")}
    shared = {path.name for path in Path(backend.start("cpu").flags.cache_path, "jit").glob("*.so")}
    assert anew
    assert anew <= shared
    losses = [float.fromhex(line) for line in said[0].splitlines()[:3]]
    assert losses[2] < losses[0]
    assert said[0] == said[1]


def test_an_operator_marked_for_tuning_goes_through_jittors_tuner(tmp_path: Path, launcher: Path) -> None:
    backend.start("cpu")
    source, output = tmp_path / "one_op.cc", tmp_path / "one_op.so"
    source.write_text('// @begin replace "never" "there"\nextern "C" int one() { return 1; }\n// @end\n')
    tuner = CompileCache.of_this_machine("cpu").sources / "jittor/utils/asm_tuner.py"
    flags = ["-fPIC", "-lstdc++", "-ldl", "-shared", "-o", str(output)]
    subprocess.run([launcher.with_name("python"), tuner, f"--cc_path={launcher}", source, *flags], check=True)
    assert output.exists()
    assert (tmp_path / "one_op.post.s").exists()


def test_a_damaged_header_does_not_stop_the_compiler(tmp_path: Path, compiler: Compiler) -> None:
    launcher = compiler.launcher(tmp_path)
    assert launcher is not None
    command = operator_command(launcher)
    before = compiled(command, tmp_path / "one_op.so")
    (header,) = launcher.parent.glob("*/operators.h.gch")
    header.write_bytes(header.read_bytes()[:100_000])  # as after a full disk
    assert compiled(command, tmp_path / "one_op.so") == before


def test_a_folder_that_takes_no_header_does_not_stop_the_compiler(tmp_path: Path, compiler: Compiler) -> None:
    launcher = compiler.launcher(tmp_path)
    assert launcher is not None
    (launcher.parent / "operators.h").write_text("#error no header\n")
    command = operator_command(launcher)
    assert compiled(command, tmp_path / "one_op.so")
    assert list(launcher.parent.glob("*/failed"))


def test_a_signal_to_the_group_lets_an_operator_be_finished(tmp_path: Path, compiler: Compiler) -> None:
    launcher = compiler.launcher(tmp_path)
    assert launcher is not None
    command = operator_command(launcher)
    output = tmp_path / "one_op.so"
    shell = "exec " + shlex.join([*command[: command.index("-o")], "-o", str(output)]) + " 2>&1 "  # as Jittor calls it
    child = subprocess.Popen(["sh", "-c", shell], start_new_session=True)
    for _ in range(500):  # until the header is being compiled
        if list(launcher.parent.glob("*/lock")):
            break
        time.sleep(0.01)
    for stop in (signal.SIGINT, signal.SIGTERM):
        os.killpg(child.pid, stop)
    assert child.wait(120) == 0
    assert output.stat().st_size


def test_two_processes_share_one_header(tmp_path: Path, compiler: Compiler) -> None:
    launcher = compiler.launcher(tmp_path)
    assert launcher is not None
    command = operator_command(launcher)
    outputs = [tmp_path / name / "one_op.so" for name in ("a", "b")]
    children = []
    for output in outputs:
        output.parent.mkdir()
        children.append(subprocess.Popen([*command[: command.index("-o")], "-o", str(output)]))
    assert [child.wait(120) for child in children] == [0, 0]
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    assert len(list(launcher.parent.glob("*/*.gch"))) == 1


def test_compiled_operators_are_counted(tmp_path: Path, launcher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGNEXT_COMPILED", str(tmp_path / "count"))
    command = operator_command(launcher)
    for _ in range(2):
        compiled(command, tmp_path / "one_op.so")
    assert (tmp_path / "count").stat().st_size == 2


def test_jittors_utilities_are_compiled_from_one_source_and_once(tmp_path: Path, compiler: Compiler) -> None:
    launcher = compiler.launcher(tmp_path)
    assert launcher is not None
    sources = [tmp_path / "one.cc", tmp_path / "two.cc"]
    for number, source in enumerate(sources):
        source.write_text(f'extern "C" int value_{number}() {{ return {number}; }}\n')
    output = tmp_path / "jit_utils_core.so"
    command = [launcher, *sources, "-shared", "-fPIC", "-o", output]
    subprocess.run(command, check=True)
    assert ctypes.CDLL(str(output)).value_1() == 1
    before = output.stat().st_mtime_ns
    subprocess.run(command, check=True)
    assert output.stat().st_mtime_ns == before
    subprocess.run([*command, "-O1"], check=True)
    assert output.stat().st_mtime_ns > before


def test_utilities_that_do_not_fit_into_one_source_are_compiled_as_they_are(tmp_path: Path, compiler: Compiler) -> None:
    launcher = compiler.launcher(tmp_path)
    assert launcher is not None
    sources = [tmp_path / "one.cc", tmp_path / "two.cc"]
    for source in sources:
        source.write_text("static int same;\nint *" + source.stem + " = &same;\n#define same no longer\n")
    output = tmp_path / "jit_utils_core.so"
    subprocess.run([launcher, *sources, "-shared", "-fPIC", "-o", output], check=True, stderr=subprocess.DEVNULL)
    assert output.exists()


JITTORS_LINE = (
    "\nCompiling Operators(11/34) used: 8.2s eta: 17.1s \rCompiling Operators(12/34) used: 9.1s eta: 16.5s \r"
)


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (JITTORS_LINE, "Compiling operators: 12 of 34, about 16 s left\n"),
        (f"{JITTORS_LINE}\nof another graph", "Compiling operators: 8 done\n"),
        ("", "Compiling operators: 8 done\n"),
    ],
)
def test_the_screen_learns_how_many_operators_are_left(
    tmp_path: Path, compiler: Compiler, monkeypatch: pytest.MonkeyPatch, log: str, said: str
) -> None:
    launcher = compiler.launcher(tmp_path)
    assert launcher is not None
    for variable, name, text in (("SCREEN", "screen", ""), ("LOG", "log", log), ("COMPILED", "count", "." * 7)):
        monkeypatch.setenv(f"SEGNEXT_{variable}", str(tmp_path / name))
        (tmp_path / name).write_text(text)
    source, shown = tmp_path / "one.cc", tmp_path / "count.shown"
    source.write_text('extern "C" int one() { return 1; }\n')
    shown.touch()
    os.utime(shown, (time.time() - 6, time.time() - 6))
    for _ in range(2):  # at most a line every few seconds
        subprocess.run([launcher, source, "-shared", "-fPIC", "-o", tmp_path / "one_op.so"], check=True)
    assert (tmp_path / "screen").read_text() == said


def test_a_child_finds_the_compiler_behind_its_parents_launcher(
    tmp_path: Path, compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("cc_path", str(compiler.launcher(tmp_path)))
    assert find_compiler() == compiler.path


def test_without_a_launcher_jittor_gets_the_compiler_itself(tmp_path: Path) -> None:
    assert Compiler("/nowhere/g++", "none").launcher(tmp_path) is None


def test_another_compiler_gets_another_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    now = CompileCache.of_this_machine("cpu")
    monkeypatch.setattr(Compiler, "of_this_machine", classmethod(lambda cls: Compiler(find_compiler(), "updated")))
    assert CompileCache.of_this_machine("cpu").name != now.name


def test_a_home_with_a_space_is_seen_by_a_name_without_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JITTOR_HOME", str(tmp_path / "my home"))
    cache = CompileCache.of_this_machine("cpu")
    for path in (cache.home, cache.sources, cache.compiler, cache.python_config):
        assert " " not in str(path)
    assert cache.home.resolve() == tmp_path / "my home"


def test_names_that_two_files_define_are_kept_apart_in_their_unit(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"{number}.cc").write_text(f"static int _ = {number};\nint value_{number}() {{ return _; }}\n")
    unit = tmp_path / "unit.cc"
    unit.write_text(_joined([str(tmp_path / "1.cc"), str(tmp_path / "2.cc")]))
    main = "int main() { return value_1() * 10 + value_2(); }"
    unit.write_text(unit.read_text() + main)
    subprocess.run([find_compiler(), str(unit), "-o", str(tmp_path / "unit")], check=True)
    assert subprocess.run([tmp_path / "unit"]).returncode == 12


STOPPED = """
import signal, sys, time
from pathlib import Path
from segnext import backend
jt = backend.start("cpu", log=Path(sys.argv[1]))
seen = []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: seen.append(signal.Signals(number).name))
salt = time.time_ns() % 10**6  # an operator that no cache holds
lines = [f"@out({i % 3}) = std::pow({salt + i}.0f, @out({(i + 1) % 3}));" for i in range(2500)]
operator = jt.code([3], "float32", [], cpu_src="\\n".join(lines))
print("compiling", flush=True)
operator.sync()
time.sleep(0.01)  # a signal that another thread has got is noticed when the main one takes the interpreter back
print(*seen)
"""


def test_stops_while_an_operator_compiles_reach_the_handlers_when_it_is_compiled(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", STOPPED, str(tmp_path / "log")],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "compiling\n"
    family = psutil.Process(child.pid)
    while not any(process.name() == "cc1plus" for process in family.children(recursive=True)):
        assert child.poll() is None
        time.sleep(0.01)
    for stop in (signal.SIGINT, signal.SIGTERM):
        os.killpg(child.pid, stop)
    said, _ = child.communicate(timeout=120)
    assert child.returncode == 0, (tmp_path / "log").read_text()
    assert said.split() == ["SIGINT", "SIGTERM"]
