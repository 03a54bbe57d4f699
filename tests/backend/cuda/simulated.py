"""A machine's CUDA out of empty files, in the layout of the real wheels and with an ``nvcc`` that answers."""

from __future__ import annotations

from pathlib import Path

from segnext.backend.cuda.pieces import PIECES, Piece

__all__ = ["add_nvcc", "add_piece", "add_wheels"]


def add_wheels(site: Path, *, without: str = "") -> None:
    """Lays every wheel but one into a folder of installed packages."""
    for piece in PIECES:
        if piece.wheel != without:
            add_piece(site, piece)


def add_piece(site: Path, piece: Piece, *, version: str = "") -> None:
    folder = site / "nvidia" / ("cudnn" if "cudnn" in piece.wheel else "cu13")
    for name in piece.files:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    name = piece.wheel.replace("-", "_")
    for old in site.glob(f"{name}-*.dist-info"):
        old.rmdir()
    (site / f"{name}-{version or piece.version}.dist-info").mkdir()
    if piece.files == ("bin/nvcc",):
        add_nvcc(folder / "bin/nvcc", version=piece.version)


def add_nvcc(file: Path, *, version: str) -> None:
    """A script that answers as nvcc does: its release, its folder, and otherwise the arguments it was given."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        "#!/bin/sh\n"
        'case "$1" in\n'
        f'  --version) echo "Cuda compilation tools, release {version[:4]}, V{version}" ;;\n'
        f"  --dryrun) echo '#$ TOP={file.parent}/..' >&2 ;;\n"
        '  *) echo "$@" ;;\n'
        "esac\n"
    )
    file.chmod(0o755)
