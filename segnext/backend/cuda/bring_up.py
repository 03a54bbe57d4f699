"""Decides which CUDA Jittor gets, and sets the environment for it."""

from __future__ import annotations

import os
from pathlib import Path

from segnext.backend.cuda import environment
from segnext.backend.cuda.driver import Card, read_card
from segnext.backend.cuda.home import assemble
from segnext.backend.cuda.pieces import Survey, survey
from segnext.backend.cuda.toolkit import Toolkit, installed_toolkits
from segnext.errors import BackendError

__all__ = ["find_cuda", "prepare"]

_WHEELS = (13, 0)  # the CUDA release of the wheels
_LEAST_CAPABILITY = (7, 5)  # CUDA 13 has dropped Volta and older
_DRIVER = 580  # NVIDIA's first driver branch for CUDA 13


def find_cuda() -> Toolkit | Survey:
    """The CUDA for the first visible GPU: a toolkit that suits Jittor as it is, else the complete pieces of CUDA 13.

    Raises:
        BackendError: no usable GPU, a driver too old, or a missing piece, each with its cure.
    """
    card = read_card()
    toolkits = installed_toolkits()
    if toolkits and toolkits[0].suits_jittor():
        _check_driver(card, toolkits[0].version)
        return toolkits[0]
    _check_driver(card, _WHEELS)
    if card.capability < _LEAST_CAPABILITY:
        raise BackendError(
            f"{card.name} (compute capability {_dotted(card.capability)}) is too old for CUDA 13: install a CUDA 11 or "
            "12 toolkit with cuDNN 8"
        )
    found = survey()
    if problem := found.problem():
        raise BackendError(problem)
    return found


def prepare(cuda: Toolkit | Survey, folder: Path) -> Path:
    """Sets this process's environment for ``cuda``; returns the ``nvcc`` that Jittor will use.

    Raises:
        BackendError: the CUDA home can't be assembled in ``folder``.
    """
    if isinstance(cuda, Toolkit):
        os.environ["nvcc_path"] = str(cuda.nvcc)
        return cuda.nvcc
    home = assemble(cuda, folder)
    environment.enter(home, os.environ, capability=read_card().capability)
    return home / "bin" / "nvcc"


def _check_driver(card: Card, version: tuple[int, ...]) -> None:
    """Within a major release every driver runs every toolkit (NVIDIA's minor version compatibility)."""
    if card.cuda[0] >= version[0]:
        return
    cure = f"install NVIDIA driver {_DRIVER} or newer" if version[0] == _WHEELS[0] else "install a newer NVIDIA driver"
    other = f", or a CUDA {card.cuda[0]} toolkit with cuDNN 8" if version[0] == _WHEELS[0] else ""
    raise BackendError(
        f"the NVIDIA driver of {card.name} runs CUDA up to {_dotted(card.cuda)} and CUDA {_dotted(version[:2])} is to "
        f"be used: {cure}{other}"
    )


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
