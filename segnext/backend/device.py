"""The processor or a GPU: which one Jittor gets, and the environment that it needs for it.

Jittor takes the first visible GPU, on every rank, unless its NCCL extension chooses the one of the rank's number.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from pathlib import Path

from segnext.backend.cuda import environment
from segnext.backend.cuda.bring_up import find_cuda, prepare
from segnext.backend.cuda.driver import NoDriver
from segnext.backend.cuda.pieces import site_folders
from segnext.backend.world import World, current_world
from segnext.errors import BackendError
from segnext.files import cache_home, link_atomically

__all__ = ["DEVICES", "assign_gpu", "choose_device", "cuda_problem", "find_nccl", "present_gpus"]

DEVICES = ("auto", "cpu", "cuda")


def cuda_problem() -> str:
    """Why no CUDA device can be used here, or an empty string if one can."""
    try:
        find_cuda()
    except BackendError as error:
        return str(error)
    return ""


def choose_device(device: str, announce: Callable[[str], None] | None) -> str:
    """``cuda`` or ``cpu``, with the environment set for it."""
    world = current_world()
    if device != "cpu":
        try:
            if world.size > 1 and (gpus := present_gpus(os.environ)):  # the driver, once started, keeps what it sees
                assign_gpu(world, gpus, links=cache_home() / "nccl")
            prepare(find_cuda(), cache_home() / "cuda")
            return "cuda"
        except BackendError as error:
            if device == "cuda":
                raise BackendError(f"device=cuda: {error}; device=cpu trains on the processor") from error
            if announce and not isinstance(error, NoDriver):
                announce(f"No GPU is used, but the CPU: {error}")
    os.environ["nvcc_path"] = ""  # with any nvcc but no driver, importing Jittor aborts
    environment.leave(os.environ)
    return "cpu"


def present_gpus(environment: Mapping[str, str], *, driver: Path = Path("/proc/driver/nvidia/gpus")) -> list[str]:
    """The GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them, found without starting the driver."""
    named = environment.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    return [str(i) for i in range(len(list(driver.iterdir())))] if driver.is_dir() else []


def assign_gpu(
    world: World, gpus: Sequence[str], *, links: Path, environment: MutableMapping[str, str] = os.environ
) -> str:
    """Gives the rank the GPU of its number on this machine, for Jittor's import to find; returns its name.

    Args:
        gpus: the visible ones, as ``CUDA_VISIBLE_DEVICES`` names them.
        links: a folder for a link to NCCL's library by the name that Jittor looks for.

    Raises:
        BackendError: there are more ranks than GPUs on this machine.
    """
    if world.local_size > len(gpus):
        raise BackendError(
            f"{world.local_size} ranks on this machine and {len(gpus)} visible GPUs: start at most {len(gpus)} here, "
            "make more visible by CUDA_VISIBLE_DEVICES, or use device=cpu"
        )
    gpu = gpus[world.local_rank]
    nccl = find_nccl()
    if nccl is None:  # gradients go through the processor's memory then
        environment["use_nccl"] = "0"
        environment["CUDA_VISIBLE_DEVICES"] = gpu
        return gpu
    include, library = nccl
    link_atomically(links / "libnccl.so", library)
    environment.update(use_nccl="1", nccl_include_path=str(include), nccl_lib_path=str(links))
    return gpu


def find_nccl() -> tuple[Path, Path] | None:
    """The folder of NCCL's header and its library, from NVIDIA's wheel or the system; None without it."""
    roots = [folder / "nvidia" / "nccl" for folder in site_folders()]
    places = [(root / "include", root / "lib" / "libnccl.so.2") for root in roots]
    system = Path("/usr/lib") / f"{os.uname().machine}-linux-gnu" / "libnccl.so.2"
    places.append((Path("/usr/include"), system))
    return next(
        (place for place in places if (place[0] / "nccl.h").is_file() and place[1].exists()),
        None,
    )
