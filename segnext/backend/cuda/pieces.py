"""What a complete CUDA 13 for Jittor consists of, which of it this machine has, and how to get the rest."""

from __future__ import annotations

import site
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segnext.backend.cuda.toolkit import Toolkit, installed_toolkits

__all__ = ["COMPILER", "EXTRA", "PIECES", "Found", "Piece", "Survey", "library_folders", "site_folders", "survey"]

EXTRA = "cuda13"  # of pyproject.toml: all the wheels below
_CUDA = 13


@dataclass(frozen=True)
class Piece:
    """A part of CUDA.

    Attributes:
        wheel: the distribution that holds it.
        version: the one that this project was compiled against.
        files: relative paths that must be there; ``lib/`` stands for whatever a root calls its folder of libraries.
        of_compiler: whether only the copy beside nvcc counts.
    """

    wheel: str
    version: str
    files: tuple[str, ...]
    of_compiler: bool = False

    @property
    def cure(self) -> str:
        return f"pip install {self.wheel}=={self.version}"


COMPILER = Piece("nvidia-cuda-nvcc", "13.0.88", ("bin/nvcc",), of_compiler=True)
PIECES = (
    COMPILER,
    Piece("nvidia-nvvm", "13.0.88", ("nvvm/bin/cicc",), of_compiler=True),
    Piece("nvidia-cuda-crt", "13.0.88", ("include/crt/host_config.h",), of_compiler=True),
    Piece("nvidia-cuda-cccl", "13.0.85", ("include/cccl/cub/cub.cuh",), of_compiler=True),
    Piece("nvidia-cuda-runtime", "13.0.96", ("include/cuda_runtime.h", "lib/libcudart.so.13"), of_compiler=True),
    Piece("nvidia-cublas", "13.1.0.3", ("include/cublas_v2.h", "lib/libcublas.so.13", "lib/libcublasLt.so.13")),
    Piece(
        "nvidia-cudnn-cu13",
        "9.19.0.56",
        ("include/cudnn.h", "lib/libcudnn.so.9", "lib/libcudnn_ops.so.9", "lib/libcudnn_cnn.so.9"),
    ),
    Piece("nvidia-curand", "10.4.0.35", ("include/curand.h", "lib/libcurand.so.10")),
    Piece("nvidia-cufft", "12.0.0.61", ("include/cufft.h", "include/cufftXt.h", "lib/libcufft.so.12")),
    Piece("nvidia-cusparse", "12.6.3.3", ("include/cusparse.h", "lib/libcusparse.so.12")),
    Piece("nvidia-cuda-nvrtc", "13.0.88", ("lib/libnvrtc.so.13",)),
    Piece("nvidia-nvjitlink", "13.0.88", ("lib/libnvJitLink.so.13",)),
)


@dataclass(frozen=True)
class Found:
    """A piece that is complete under ``root``; ``version`` is the wheel's, or empty in a toolkit of the system."""

    piece: Piece
    root: Path
    version: str


@dataclass(frozen=True)
class Survey:
    """The pieces of CUDA on this machine.

    Attributes:
        toolkit: the CUDA 13 compiler, if there is one.
        found: every piece that is complete, those of the compiler first: all headers must fit it.
        missing: every other one.
        older: compilers of other releases, which can't be used with these pieces.
    """

    toolkit: Toolkit | None
    found: tuple[Found, ...]
    missing: tuple[Piece, ...]
    older: tuple[Toolkit, ...]

    @property
    def roots(self) -> tuple[Path, ...]:
        """The folders that the pieces lie in, by rank."""
        return tuple(dict.fromkeys(found.root for found in self.found))

    def lines(self) -> list[str]:
        """What was found and what is missing, a line each, with the cure."""
        lines = []
        for found in self.found:
            tested = found.piece.version
            other = f", compiled against {tested}" if found.version not in ("", tested) else ""
            lines.append(f"{found.piece.wheel} {found.version or 'as part of a toolkit'}{other}: {found.root}")
        return lines + [f"{piece.wheel} missing: {piece.cure}" for piece in self.missing]

    def problem(self) -> str:
        """One sentence that names what is missing and the cure, or an empty string."""
        if not self.missing:
            return ""
        cure = self.missing[0].cure if len(self.missing) == 1 else f'pip install "segnext-jittor[{EXTRA}]"'
        older = ""
        if self.toolkit is None and self.older:
            other, cudnn = self.older[0], self.older[0].cudnn()
            older = f"; {other.nvcc} is CUDA {other.release}, which Jittor takes with cuDNN 8 beside it ("
            older += f"cuDNN {cudnn} is there)" if cudnn else "there is none)"
        names = ", ".join(piece.wheel for piece in self.missing)
        return f"a GPU is present, but parts of CUDA {_CUDA} are missing ({names}): {cure}{older}"


def survey(*, sites: Sequence[Path] | None = None, toolkits: Sequence[Toolkit] | None = None) -> Survey:
    """Looks for every piece.

    Args:
        sites: folders of installed packages; those of the running interpreter by default.
        toolkits: CUDA toolkits by rank; those of the machine and of the wheels by default.
    """
    wheels = {}  # folder of wheels: the site it belongs to
    for place in site_folders() if sites is None else sites:
        wheels[(place / "nvidia/cu13").resolve()] = place
        if _wheel_version(place, "nvidia-cudnn-cu13"):  # that of CUDA 12 uses the same folder
            wheels[(place / "nvidia/cudnn").resolve()] = place
    if toolkits is None:
        toolkits = installed_toolkits(last=[folder / "bin/nvcc" for folder in wheels])
    toolkit = next((toolkit for toolkit in toolkits if toolkit.version[0] == _CUDA), None)
    own = [toolkit.root] if toolkit else []
    found: list[Found] = []
    missing: list[Piece] = []
    for piece in PIECES:
        roots = own if piece.of_compiler else [*own, *wheels]
        root = next((root for root in roots if all(_holds(root, file) for file in piece.files)), None)
        if root is None:
            missing.append(piece)
        else:
            version = _wheel_version(wheels[root], piece.wheel) if root in wheels else ""
            found.append(Found(piece, root, version))
    older = tuple(other for other in toolkits if other.version[0] < _CUDA)
    return Survey(toolkit, tuple(found), tuple(missing), older)


def site_folders() -> list[Path]:
    """Every folder that the running interpreter finds installed packages in."""
    paths = sysconfig.get_paths()
    names = [paths["purelib"], paths["platlib"], *site.getsitepackages(), *sys.path]
    return [Path(name) for name in dict.fromkeys(names) if name and Path(name, "nvidia").is_dir()]


def library_folders(root: Path) -> list[Path]:
    """Where a toolkit or the wheels keep their libraries."""
    names = ("lib64", "lib", "targets/x86_64-linux/lib")
    return [root / name for name in names if (root / name).is_dir()]


def _holds(root: Path, file: str) -> bool:
    folder, _, name = file.partition("/")
    return any((place / name).exists() for place in (library_folders(root) if folder == "lib" else [root / folder]))


def _wheel_version(place: Path, wheel: str) -> str:
    """The version of a distribution as the name of its metadata's folder tells, or an empty string."""
    prefix = wheel.replace("-", "_") + "-"
    names = (folder.name for folder in place.glob(f"{prefix}*.dist-info"))
    return next((name[len(prefix) : -len(".dist-info")] for name in names), "")
