"""The C++ compiler that Jittor gets: a launcher of ours before the real one (launcher.cc says what it does)."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import zlib
from dataclasses import dataclass
from pathlib import Path

from segnext.backend.packages import JITTOR_VERSION
from segnext.errors import BackendError
from segnext.files import write_atomically

__all__ = ["Compiler", "find_compiler"]

_HERE = Path(__file__).parent

# Jittor takes what stands for Python as a source of every operator: it must be the same for all launchers.
_PYTHON = '#!/bin/sh\nexec "${0%/*}/g++" "$@"\n'


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler.

    Attributes:
        path: the compiler itself.
        version: the first line of what it says about itself.
    """

    path: str
    version: str

    @classmethod
    def of_this_machine(cls) -> Compiler:
        """``cc_path``, else g++; BackendError without one."""
        path = find_compiler()
        done = subprocess.run([path, "--version"], capture_output=True, text=True, errors="replace", check=False)
        return cls(path, (done.stdout.splitlines() or [""])[0])

    def launcher(self, home: Path) -> Path | None:
        """The launcher in a folder of its own below ``home``, compiled if it is missing; None if that fails.

        The folder is of this compiler, Jittor's version and the header, since it holds that precompiled; a new
        version of the launcher takes the old one's place, and what was compiled through it stays valid.
        """
        source, header = (_HERE / name for name in ("launcher.cc", "operators.h"))
        told = "\n".join([self.path, self.version, JITTOR_VERSION, header.read_text(), _PYTHON])
        folder = home / "launcher" / f"{zlib.crc32(told.encode()):08x}"
        launcher = folder / ("clang++" if "clang" in os.path.basename(self.path) else "g++")
        made_of = folder / "made-of"
        version = f"{zlib.crc32(source.read_bytes()):08x}"
        if not (launcher.exists() and made_of.exists() and made_of.read_text() == version):
            with contextlib.suppress(OSError, BackendError, subprocess.CalledProcessError):
                self._lay_launcher(launcher, source, header)
                made_of.write_text(version)
        return launcher if launcher.exists() else None

    def _lay_launcher(self, launcher: Path, source: Path, header: Path) -> None:
        folder = launcher.parent
        new = folder / f"{launcher.name}.{os.getpid()}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(header, folder / header.name)
        (folder / "compiler").write_text(self.path)
        command = [self.path, "-O1", "-std=c++14", f'-DCOMPILER="{self.path}"', str(source), "-o", str(new)]
        try:
            subprocess.run(command, check=True, capture_output=True)
            write_atomically(folder / "python", _PYTHON.replace("g++", launcher.name), error=BackendError, mode=0o777)
            os.replace(new, launcher)
        finally:
            new.unlink(missing_ok=True)


def find_compiler() -> str:
    """The path of the C++ compiler, also in the child of a process that knows it by the launcher.

    Raises:
        BackendError: there is none.
    """
    name = os.environ.get("cc_path") or "g++"
    behind = Path(name).with_name("compiler")
    if Path(name).is_absolute() and behind.is_file() and Path(name).with_name("operators.h").is_file():
        name = behind.read_text()
    path = shutil.which(name)
    if path is None:
        raise BackendError(f"no C++ compiler ({name} not found): install g++ (Debian, Ubuntu: apt install g++)")
    return path
