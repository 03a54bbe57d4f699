"""The environment in which Jittor 1.3.11.0 compiles and runs on a CUDA home of ours."""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path

__all__ = ["enter", "leave"]

# Members of cudaDeviceProp that CUDA 13 dropped and that Jittor's helper header, first on every search path, still
# reads for a message. The names they are turned into exist and have the same type.
_CC_FLAGS = "-DcomputeMode=major -DclockRate=multiProcessorCount"

_NEWEST = 121  # architecture that nvcc 13.0 compiles for; the PTX in what it compiles serves newer cards

# What Jittor would download, or import from outside, on the way.
_WITHOUT = {"use_cutt": "0", "use_cutlass": "0", "FIX_TORCH_ERROR": "0"}


def enter(home: Path, environment: MutableMapping[str, str], *, capability: tuple[int, int]) -> None:
    """Points Jittor at ``home``; flags of the user's own are kept. Doing it twice changes nothing.

    Args:
        capability: compute capability of the card that operators are compiled for.
    """
    environment["nvcc_path"] = str(home / "bin" / "nvcc")
    own = _without_ours(environment.get("cc_flags", ""))
    environment["cc_flags"] = f"{own} {_CC_FLAGS}".strip()
    environment["SEGNEXT_CUDA_ARCHITECTURE"] = str(min(10 * capability[0] + capability[1], _NEWEST))  # for nvcc.sh
    environment.update(_WITHOUT)


def leave(environment: MutableMapping[str, str]) -> None:
    """Takes the compile flags out again: a process that uses the CPU may be the child of one that uses CUDA."""
    if _CC_FLAGS in environment.get("cc_flags", ""):
        own = _without_ours(environment["cc_flags"])
        if own:
            environment["cc_flags"] = own
        else:
            del environment["cc_flags"]


def _without_ours(flags: str) -> str:
    return flags.replace(_CC_FLAGS, "").strip()
