"""Programs with kernels of their own, translated and linked with the machine: no Jittor, no CUDA home."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from segnext.backend.cuda.pieces import survey
from tests.backend.cuda.machine.translate import translate

__all__ = ["ProgramBuilder"]

HERE = Path(__file__).parent
_PARTS = ("runtime", "fibers")


class ProgramBuilder:
    """Compiles programs into ``folder``; skips the test where there are no headers of CUDA."""

    def __init__(self, folder: Path, drivers: Path) -> None:
        toolkit = survey().toolkit
        if toolkit is None:
            pytest.skip("no nvcc 13: the headers of CUDA are missing")
        self._folder = folder
        self._flags = ["-std=c++17", "-w", f"-I{HERE}", f"-I{drivers}", f"-I{toolkit.root / 'include'}"]
        for part in _PARTS:  # without sanitizers: they would watch the machine instead of the kernels
            self._compile("-O2", "-c", str(HERE / f"{part}.cc"), "-o", str(folder / f"{part}.o"))

    def build(self, name: str, kernels: str, driver: Path, *flags: str) -> Path:
        """Compiles ``kernels`` and the file of the driver behind them, with ``flags``; launches are called ``name``."""
        source, program = self._folder / f"{name}.cc", self._folder / "".join((name, *flags)).replace("/", "_")
        source.write_text(translate(kernels + driver.read_text(), name=name))
        objects = [str(self._folder / f"{part}.o") for part in _PARTS]
        self._compile(*flags, "-include", "device.h", str(source), *objects, "-o", str(program))
        return program

    def _compile(self, *arguments: str) -> None:
        subprocess.run(["g++", *self._flags, *arguments], check=True)
