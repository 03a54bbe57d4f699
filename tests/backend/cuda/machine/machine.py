"""The machine itself: its folder with driver, libraries and compiler, and processes that run on it."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from segnext.backend.cuda.home import assemble
from segnext.backend.cuda.pieces import Survey, survey
from segnext.files import FileLock, cache_home
from tests.backend.cuda.machine.translate import translate

__all__ = ["Machine", "build_driver"]

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[3]
_LIBRARIES = ("cudart", "cublas", "cudnn", "curand", "cusparse")

# Every Python that starts on the machine runs this first. Jittor's home of CUDA keeps its place when a header of ours
# changes, so that the core, which takes minutes to compile and includes none of them, stays.
_SITE = """
from pathlib import Path
from segnext.backend.cuda import bring_up
bring_up.assemble = lambda pieces, folder: Path({home!r})
"""
_START = """
import sys; from pathlib import Path
from segnext import backend
jt = backend.start("cuda", log=Path({log!r}))
"""


class Machine:
    """A GPU that isn't there, in ``folder``; the first process on a new one compiles Jittor's core for minutes.

    Args:
        folder: kept from one use to the next, with all that was compiled.
        translated: whether operators become C++ for the processor; else nvcc compiles them for sm_90 and none runs.
        libraries: whether the machine's cuBLAS, cuDNN, cuRAND and cuSPARSE stand in for the real ones.
    """

    def __init__(self, folder: Path, *, translated: bool = True, libraries: bool = True) -> None:
        self.folder = folder
        self.home = folder / "cuda"
        self._translated = translated
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock.wait(folder / "machine.lock"):
            self._prepare(libraries)

    @staticmethod
    def problem() -> str:
        """Why there can be none here, or an empty string."""
        missing = ", ".join(piece.wheel for piece in survey().missing)
        return f"missing of the extra cuda13: {missing}" if missing else ""

    @classmethod
    def shared(cls) -> Machine:
        """The one that all tests use, in the user's cache."""
        return cls(cache_home() / "cuda-machine")

    def run(
        self, code: str, *arguments: str, computes: bool = True, record: Path | None = None, **settings: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs Python code after Jittor has come up, as ``jt``.

        Args:
            code: sees its arguments in ``sys.argv``.
            computes: whether kernels and libraries do their work, or are recorded alone.
            record: file to add what was recorded to.
            settings: environment variables.
        """
        start = _START.format(log=str(self.folder / "jittor.log"))
        command = [sys.executable, "-c", start + code, *arguments]
        environment = self.environment(computes=computes, record=record) | settings
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=self.folder, check=False)

    def environment(self, *, computes: bool = True, record: Path | None = None) -> dict[str, str]:
        """With which any process runs on the machine; arguments as in ``run``."""
        unwanted = ("cc_flags", "JITTOR_HOME", "CUDA_VISIBLE_DEVICES", "nvcc_path")
        # Not sys.path: where this process has started Jittor, the core of that lies there.
        folders = [str(self.folder / "site"), str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
        return {name: value for name, value in os.environ.items() if name not in unwanted} | {
            "HOME": str(self.folder),
            "SEGNEXT_HOME": str(self.folder / "segnext"),  # of Jittor's compile cache
            "LD_LIBRARY_PATH": str(self.folder / "driver"),
            "PYTHONPATH": os.pathsep.join(filter(None, folders)),
            "CUDA_MACHINE_LIBRARY": str(self.home / "lib64/libcudart.so"),
            **({} if computes else {"CUDA_MACHINE_IDLE": "1"}),
            **({"CUDA_MACHINE_LOG": str(record)} if record else {}),
        }

    def compiled(self, pattern: str) -> list[str]:
        """Names of what Jittor has compiled so far."""
        return [path.name for path in self._caches(pattern)]

    def sources(self) -> dict[str, str]:
        """Of every operator that was compiled, by the name that its launches are recorded under."""
        end = "_op.checked.cc"
        return {path.name.removesuffix(end): path.read_text() for path in self._caches(f"*{end}")}

    def _caches(self, pattern: str) -> Iterator[Path]:
        """What lies anywhere in Jittor's compile cache."""
        return (self.folder / "segnext/.cache").rglob(pattern)

    def _prepare(self, libraries: bool) -> None:
        """Lays everything in place, unless it is there in this very state."""
        pieces = survey()
        stamp = self.folder / "state"
        state = f"{_state(pieces)} {self._translated} {libraries}"
        if stamp.exists() and stamp.read_text() == state:
            return
        shutil.rmtree(self.home, ignore_errors=True)
        assemble(pieces, self.folder / "homes").rename(self.home)
        library = self.folder / "libmachine.so"
        parts = ("runtime", "fibers", "cudnn", "libraries")
        _build(library, *(HERE / f"{name}.cc" for name in parts), include=self.home / "include")
        build_driver(self.folder / "driver")
        (self.folder / "site").mkdir(exist_ok=True)
        (self.folder / "site/sitecustomize.py").write_text(_SITE.format(home=str(self.home)))
        for name in _LIBRARIES if libraries else _LIBRARIES[:1]:
            for link in (self.home / "lib64").glob(f"lib{name}*.so*"):
                link.unlink()
                link.symlink_to(library)
        if self._translated:
            self._translate_header("misc/cuda_atomic.h")
            real = (self.home / "bin/nvcc-nvidia").resolve()
            program = f'#!/bin/sh\nexec "{sys.executable}" "{HERE}/nvcc.py" "{real}" "{self.folder}" "$@"\n'
            (self.home / "bin/nvcc-nvidia").unlink()
            (self.home / "bin/nvcc-nvidia").write_text(program)
            (self.home / "bin/nvcc-nvidia").chmod(0o755)
        for place in ("jit", "custom_ops"):  # headers are not in Jittor's keys
            for stale in list(self._caches(place)):
                shutil.rmtree(stale, ignore_errors=True)
        stamp.write_text(state)

    def _translate_header(self, name: str) -> None:
        """The only header of Jittor's with a launch that operators include."""
        jittor = importlib.util.find_spec("jittor")
        assert jittor is not None
        assert jittor.origin is not None
        source = Path(jittor.origin).parent / "src" / name
        translated = self.folder / "include" / name
        translated.parent.mkdir(parents=True, exist_ok=True)
        translated.write_text(translate(source.read_text(encoding="utf-8"), name=name))


def build_driver(folder: Path) -> None:
    """Builds libcuda and libnvidia-ml of the machine there."""
    folder.mkdir(exist_ok=True)
    _build(folder / "libcuda.so.1", HERE / "driver.cc")
    for name in ("libcuda.so", "libnvidia-ml.so.1"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to("libcuda.so.1")


def _build(library: Path, *sources: Path, include: Path = HERE) -> None:
    flags = ["-std=c++17", "-O2", "-shared", "-fPIC", f"-I{include}", f"-Wl,-soname,{library.name}"]
    subprocess.run(["g++", *flags, "-o", str(library), *map(str, sources)], check=True)


def _state(pieces: Survey) -> str:
    """Changes with everything that a compiled operator depends on."""
    sources = sorted(path for path in HERE.rglob("*") if path.suffix in (".h", ".cc", ".cuh"))
    sources += [HERE / "nvcc.py", HERE / "translate.py"]
    shims = sorted((REPOSITORY / "segnext/backend/cuda/shims").iterdir())
    text = "".join(path.read_text(encoding="utf-8") for path in [*sources, *shims] if path.is_file())
    return hashlib.sha256((text + "\n".join(pieces.lines())).encode()).hexdigest()
