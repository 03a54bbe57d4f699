"""Assembles the CUDA home that Jittor 1.3.11.0 accepts: links to NVIDIA's files, and a few files of our own.

The layout: ``bin/nvcc``, a script that calls the real compiler; ``include/``, links to every header of the pieces
beside the shims, which win; ``lib64/``, every ``libX.so.N`` with a ``libX.so`` that leads to it, and the four names
that cuDNN 8 had for what is two libraries now. Nothing is downloaded or copied.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from segnext.backend.cuda.pieces import Survey, library_folders
from segnext.errors import BackendError

__all__ = ["assemble"]

_SHIMS = Path(__file__).with_name("shims")
_HEADERS = {  # place in include/: file
    "npp.h": "npp.h",
    "cudnn.h": "cudnn.h",
    "cub/cub.cuh": "cub.cuh",
    "segnext_launch_check.h": "launch_check.h",
}
_CUDNN_8_NAMES = {"ops_infer": "ops", "ops_train": "ops", "cnn_infer": "cnn", "cnn_train": "cnn"}


def assemble(survey: Survey, folder: Path) -> Path:
    """Returns the home for the pieces of ``survey`` under ``folder``, assembling it at first.

    The home's name depends on every version, place and shim, so that a change of any makes another one, and with it
    another compile cache of Jittor. Several processes may do this at the same time.

    Raises:
        BackendError: a piece is missing, or ``folder`` can't be written to.
    """
    if survey.missing or survey.toolkit is None:
        raise BackendError(survey.problem())
    home = folder / _key(survey)
    if home.is_dir():
        return home
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder, prefix=".assembling-"))
        try:
            _fill(temporary, survey, compiler=survey.toolkit.compiler)
            temporary.chmod(0o755)
            _publish(temporary, home)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise BackendError(
            f"the CUDA home could not be assembled in {folder} ({error}): make room or set SEGNEXT_HOME"
        ) from error
    return home


def _key(survey: Survey) -> str:
    parts = [f"{found.piece.wheel} {found.version} {found.root}" for found in survey.found]
    if survey.toolkit:
        parts.append(f"{survey.toolkit.release} {survey.toolkit.compiler}")
    parts += [(_SHIMS / name).read_text(encoding="utf-8") for name in (*_HEADERS.values(), "nvcc.sh")]
    parts.append(Path(__file__).read_text(encoding="utf-8"))  # the layout itself
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _publish(temporary: Path, home: Path) -> None:
    """Gives the finished folder its name; another process may have been faster, with the same content."""
    try:
        os.rename(temporary, home)
    except OSError:
        if not home.is_dir():
            raise


def _fill(home: Path, survey: Survey, *, compiler: Path) -> None:
    for name in ("bin", "include", "lib64"):
        (home / name).mkdir()
    shutil.copyfile(_SHIMS / "nvcc.sh", home / "bin/nvcc")
    (home / "bin/nvcc").chmod(0o755)
    (home / "bin/nvcc-nvidia").symlink_to(compiler)
    for place, name in _HEADERS.items():
        (home / "include" / place).parent.mkdir(exist_ok=True)
        shutil.copyfile(_SHIMS / name, home / "include" / place)
    for root in survey.roots:
        _link_headers(root / "include", home / "include")
        for libraries in library_folders(root):
            for file in sorted(libraries.iterdir()):
                if ".so" in file.name or file.suffix == ".a":
                    _link(home / "lib64" / file.name, file)
    _name_libraries(home / "lib64")


def _link_headers(source: Path, include: Path) -> None:
    """Links what ``source`` holds, into a folder that a shim needs one by one."""
    for entry in sorted(source.iterdir()) if source.is_dir() else []:
        if entry.name == "cudnn.h":
            _link(include / "cudnn_nvidia.h", entry)  # included by the shim
        elif entry.is_dir() and (include / entry.name).is_dir() and not (include / entry.name).is_symlink():
            for neighbour in sorted(entry.iterdir()):
                _link(include / entry.name / neighbour.name, neighbour)
        else:
            _link(include / entry.name, entry)


def _name_libraries(folder: Path) -> None:
    """Adds the names without a version, and those of cuDNN 8."""
    for name in sorted(entry.name for entry in folder.iterdir() if ".so." in entry.name):
        _link(folder / f"{name.partition('.so.')[0]}.so", Path(name))
    for old, new in _CUDNN_8_NAMES.items():
        _link(folder / f"libcudnn_{old}.so", Path(f"libcudnn_{new}.so"))


def _link(link: Path, target: Path) -> None:
    """Makes a link unless a root of higher rank has taken the name."""
    if not os.path.lexists(link):
        link.symlink_to(target)
