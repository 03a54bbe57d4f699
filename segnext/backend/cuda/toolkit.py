"""The CUDA toolkits of the machine: an ``nvcc`` with what lies around it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["USUAL", "Toolkit", "installed_toolkits", "read_toolkit"]

USUAL = Path("/usr/local")  # NVIDIA's installers put cuda-X.Y and the link cuda here
_SYSTEM_HEADERS = Path("/usr/include")  # where Jittor, too, looks for a cuDNN that is not in the toolkit's folder


@dataclass(frozen=True)
class Toolkit:
    """An ``nvcc`` that runs.

    Attributes:
        nvcc: as it is called; may be a script that calls the real one.
        version: CUDA release, for example (13, 0, 88).
        root: the folder that holds the real one's ``bin``, ``include`` and libraries.
    """

    nvcc: Path
    version: tuple[int, ...]
    root: Path

    @property
    def release(self) -> str:
        return ".".join(map(str, self.version))

    @property
    def compiler(self) -> Path:
        """The real program, where ``nvcc`` may be a script."""
        program = self.root / "bin" / "nvcc"
        return program if program.exists() else self.nvcc

    def cudnn(self) -> int | None:
        """Major version of the cuDNN that Jittor would find beside this toolkit."""
        folders = (self.root / "include", self.nvcc.resolve().parents[1] / "include", _SYSTEM_HEADERS)
        for file in (folder / name for folder in folders for name in ("cudnn_version.h", "cudnn.h")):
            try:
                text = file.read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            if major := re.search(r"#define\s+CUDNN_MAJOR\s+(\d+)", text):
                return int(major[1])
        return None

    def suits_jittor(self) -> bool:
        """Whether Jittor 1.3.11.0 works with it as it is: CUDA ≤ 12 with cuDNN ≤ 8."""
        cudnn = self.cudnn()
        return self.version[0] <= 12 and cudnn is not None and cudnn <= 8


def installed_toolkits(*, last: Iterable[Path] = ()) -> list[Toolkit]:
    """Every toolkit that runs: ``nvcc_path``, the PATH, the usual folders (the newest first), then ``last``."""
    names = [
        os.environ.get("nvcc_path", ""),
        shutil.which("nvcc") or "",
        str(USUAL / "cuda/bin/nvcc"),
        *sorted((str(path) for path in USUAL.glob("cuda-*/bin/nvcc")), reverse=True),
        *map(str, last),
    ]
    toolkits = (read_toolkit(Path(name)) for name in dict.fromkeys(names) if name)
    return [toolkit for toolkit in toolkits if toolkit]


def read_toolkit(nvcc: Path) -> Toolkit | None:
    """Runs ``nvcc`` to learn its version and its folder; None where it doesn't run."""
    version = re.search(r"\bV(\d+(?:\.\d+)+)", _output(nvcc, "--version"))
    if version is None:
        return None
    nothing = ["-x", "cu", "-c", os.devnull, "-o", os.devnull]
    top = re.search(r"^#\$ TOP=(.+)$", _output(nvcc, "--dryrun", *nothing), re.MULTILINE)
    root = Path(top[1].strip()) if top else nvcc.resolve().parents[1]
    return Toolkit(nvcc, tuple(map(int, version[1].split("."))), root.resolve())


def _output(program: Path, *arguments: str) -> str:
    """What a program prints on both streams; empty where it cannot be run."""
    try:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr if done.returncode == 0 else ""
