"""The processor or a GPU: which one Jittor gets, and the environment that it needs for it."""

from __future__ import annotations

import os
from collections.abc import Callable

from segnext.backend.cuda import environment
from segnext.backend.cuda.bring_up import find_cuda, prepare
from segnext.backend.cuda.driver import NoDriver
from segnext.backend.gpus import assign_gpu, present_gpus
from segnext.backend.world import current_world
from segnext.errors import BackendError
from segnext.files import cache_home

__all__ = ["DEVICES", "choose_device", "cuda_problem"]

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
