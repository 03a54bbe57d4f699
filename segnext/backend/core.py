"""Compiles Jittor's core from a few large units instead of 160 files, in a process of its own.

Each file by itself costs the compiler seconds of headers and repeats the templates of its neighbours. Files of one
kind, included into one source, cost a seventh of that, at the level of optimisation that their kind needs.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segnext.backend.compile_cache import CompileCache
from segnext.backend.world import available_cores

__all__ = ["compile_processes", "gather_core"]

_GIB = 2**30

# Files that others may not share a unit with: they see flags as variables, or define macros of common names.
_APART = (
    "init.cc",
    "op_register.cc",
    "cuda_flags.cc",
    "pyjt_jit_flags.cc",
    "pyjt_jit_op_maker.cc",
    "jit_compiler.cc",
    "miniz.cc",
    "numpy.cc",
    "data.cc",
)
_LAST = ("profiler.cc", "executor.cc")  # what Jittor initialises last
_FIRST = (
    "op_utils.cc",
    "event_queue.cc",
    "sfrl_allocator.cc",
    "allocator.cc",
    "nano_string.cc",
)

_REPORT_EVERY = 4.0  # seconds

# Kinds of files by their folder, and their level; CPU seconds as measured, for the order and the time that is left.
_KINDS = (
    ("bindings", re.compile(r"/gen/pyjt_"), "-O1", 4.0),
    ("passes", re.compile(r"/src/opt/"), "-O1", 14.0),
    ("operators", re.compile(r"/src/ops/"), "-O2", 6.0),
    ("tests", re.compile(r"/src/test/"), "-O0", 4.0),
    ("runtime", re.compile(r"/src/(mem/.*|[^/]+)$"), "-O2", 16.0),
    ("library", re.compile(r"/src/"), "-O2", 4.0),
)
_SECONDS = {"pyjt_jit_op_maker.cc": 15.0, "data.cc": 7.0, "pyjt_jit_flags.cc": 4.0, "last": 4.0, "first": 2.5}

# Names that several files define, each for itself.
_OWN = re.compile(r"^static (?:auto|int|unordered_set<string>) (\w+)\s*[=;(]", re.MULTILINE)


@dataclass(frozen=True)
class _Unit:
    """Files of the core that are compiled together; ``commands`` are Jittor's own, one a file."""

    name: str
    level: str
    seconds: float
    commands: tuple[tuple[str, ...], ...]
    times: list[float] = field(default_factory=list, compare=False)  # when its compilation began and ended

    @property
    def sources(self) -> list[str]:
        return [command[1] for command in self.commands]

    @property
    def gathered(self) -> bool:
        """Whether it is C++: what nvcc compiles stays as it is."""
        return self.sources[0].endswith(".cc")

    @property
    def objects(self) -> list[Path]:
        return [_object(command) for command in self.commands]

    def compile(self, folder: Path, empty: Path) -> None:
        """Compiles the files together, or one by one if that fails; CalledProcessError if that fails, too."""
        self.times.append(time.monotonic())
        self._compile(folder, empty)
        self.times.append(time.monotonic())

    def _compile(self, folder: Path, empty: Path) -> None:
        source = folder / f"{self.name}.cc"
        source.write_text(_joined(self.sources))
        compiler, _, *rest = self.commands[0]
        together = [compiler, str(source), *(self.level if word == "-O2" else word for word in rest)]
        if self.gathered and _run(together).returncode == 0:
            for other in self.objects[1:]:
                other.write_bytes(empty.read_bytes())
            return
        for command in self.commands:
            _run(command).check_returncode()


def compile_processes() -> int:
    """As many compilers as cores, and as have 1 GiB of memory each."""
    return max(1, min(available_cores(), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // _GIB, 16))


Report = Callable[[str], object]


def gather_core(utilities: Any, report: Report | None = None) -> None:
    """Lets ``jittor_utils`` compile the core of ``import jittor`` in units, all else with a process for each core.

    Args:
        utilities: the module ``jittor_utils``, before ``jittor`` is imported.
        report: called every few seconds with how far it is: how many parts of how many, and the time that is left.
    """
    one_by_one, run_command = utilities.run_cmds, utilities.run_cmd
    postponed: list[tuple[str, ...]] = []
    utilities.get_total_mem = lambda: compile_processes() * 3 * _GIB  # a process for each 3 GiB

    def run_commands(commands: list[str], cache: str, jittor: str, message: str = "") -> None:
        if message == "Compiling jittor_core":
            _compile_units([_words(command) for command in commands], Path(cache), report, postponed)
        else:
            with _counted([_object(_words(command)) for command in commands], report):
                one_by_one(sorted(commands, key=_size, reverse=True), cache, jittor, message)  # the longest ones first

    def run_or_postpone(command: str, *others: Any, **settings: Any) -> Any:
        words = _words(command)
        source = next((word for word in words if word.endswith("/data.cc")), None)
        if source is None:
            return run_command(command, *others, **settings)
        # The part of Jittor that comes as one generated file, which is removed after this: a unit like the others.
        kept = Path(source).parent / "units" / "data.cc"
        kept.parent.mkdir(exist_ok=True)
        kept.write_bytes(Path(source).read_bytes())
        postponed.append((words[0], str(kept), *(word for word in words[1:] if word != source)))
        return ""

    utilities.run_cmds, utilities.run_cmd = run_commands, run_or_postpone


def _compile_units(
    commands: Sequence[tuple[str, ...]],
    cache: Path,
    report: Report | None,
    others: Sequence[tuple[str, ...]] = (),
) -> None:
    """Compiles ``commands`` unless that has been done already, and ``others`` beside them."""
    key = _key(commands)
    stamp = cache / "obj_files" / "units.key"
    ready = stamp.exists() and stamp.read_text() == key and all(_object(command).exists() for command in commands)
    if ready and not others:
        return
    folder = cache / "units"
    folder.mkdir(exist_ok=True)
    units = sorted(_units([*others, *(() if ready else commands)]), key=lambda unit: -unit.seconds)
    (folder / "empty.cc").write_text("// stands for files that are compiled with others\n")
    empty = folder / "empty.o"
    _run([commands[0][0], str(folder / "empty.cc"), "-c", "-o", str(empty)]).check_returncode()
    with ThreadPoolExecutor(compile_processes()) as pool:
        waiting = {pool.submit(unit.compile, folder, empty) for unit in units}
        while waiting:
            if report is not None:
                report(f"{len(units) - len(waiting)} of {len(units)} parts, about {_seconds_left(units):.0f} s left")
            finished, waiting = wait(waiting, _REPORT_EVERY, FIRST_COMPLETED)
            for one in finished:
                one.result()
    if report is not None:
        report(f"{len(units)} of {len(units)} parts, linking them")
    stamp.write_text(key)


@contextlib.contextmanager
def _counted(objects: Sequence[Path], report: Report | None) -> Iterator[None]:
    """Reports meanwhile how many of an extension's ``objects`` are compiled."""
    if report is None:
        yield
        return
    began, ended = time.time(), threading.Event()

    def watch() -> None:
        while not ended.wait(_REPORT_EVERY):
            done = sum(path.exists() and path.stat().st_mtime > began - 1 for path in objects)
            left = f", about {(time.time() - began) * (len(objects) / done - 1):.0f} s left" if done else ""
            report(f"an extension, {done} of {len(objects)} parts{left}")

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _seconds_left(units: Sequence[_Unit]) -> float:
    """About; the units that are finished, or take longer than they should, tell how fast this machine is."""
    now, pace = time.monotonic(), 1.0
    finished = [unit for unit in units if len(unit.times) == 2]
    others = [(unit.seconds, now - (unit.times or [now])[0]) for unit in units if len(unit.times) < 2]
    if finished:
        pace = sum(end - begin for begin, end in (unit.times for unit in finished)) / sum(u.seconds for u in finished)
    pace = max([pace, *(spent / seconds for seconds, spent in others)])
    return sum(max(0.0, pace * seconds - spent) for seconds, spent in others) / compile_processes()


def _units(commands: Sequence[tuple[str, ...]]) -> list[_Unit]:
    """Jittor's order of initialisation is kept: the linker sees a unit in the place of its first file."""
    groups: dict[tuple[str, str, float], list[tuple[str, ...]]] = {}
    for command in commands:
        path = command[1]
        name = os.path.basename(path)
        if not name.endswith(".cc") or name in _APART:
            kind = (name, "-O1" if name.startswith("pyjt_") else "-O2", _SECONDS.get(name, 1.5))
        elif name in _FIRST or name in _LAST:
            kind = ("first", "-O2", _SECONDS["first"]) if name in _FIRST else ("last", "-O2", _SECONDS["last"])
        else:
            found = next(((n, level, s) for n, pattern, level, s in _KINDS if pattern.search(path)), None)
            kind = found or (name, "-O2", 1.5)
        groups.setdefault(kind, []).append(command)
    return [_Unit(*kind, tuple(group)) for kind, group in groups.items()]


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    """Compiles; the compiler holds the core's lock as long as it runs, whatever becomes of this process."""
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=2, close_fds=False)


def _words(command: str) -> tuple[str, ...]:
    return tuple(command.replace('"', "").split())  # no name has a space in it, and shlex takes half a second for all


def _size(command: str) -> int:
    source = _words(command)[1]
    return os.path.getsize(source) if os.path.exists(source) else 0


def _object(command: Sequence[str]) -> Path:
    return Path(command[command.index("-o") + 1])


def _joined(sources: Sequence[str]) -> str:
    lines = []
    for number, source in enumerate(sources):
        names = sorted(set(_OWN.findall(Path(source).read_text(encoding="utf-8"))))
        lines += [f"#define {name} {name}__{number}" for name in names]
        lines.append(f'#include "{source}"')
        lines += [f"#undef {name}" for name in names]
    return "\n".join(lines) + "\n"


def _key(commands: Sequence[tuple[str, ...]]) -> str:
    digest = hashlib.sha256(repr([(unit.name, unit.level, unit.sources) for unit in _units(commands)]).encode())
    for command in commands:
        digest.update("\0".join(command).encode())
        digest.update(Path(command[1]).read_bytes())
    return digest.hexdigest()


def _main(device: str, stamp: Path, state: Path) -> None:
    stamp.with_name("data.md5").unlink(missing_ok=True)  # Jittor notes that data.cc is compiled before it is
    with CompileCache.of_this_machine(device).jittor_found():
        gather_core(importlib.import_module("jittor_utils"), state.write_text)
        importlib.import_module("jittor")
    stamp.touch()


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
