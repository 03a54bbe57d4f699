"""How the ranks of a run come together: one folder, one device each, one communicator between them."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext

from rich.console import Console

from segnext import backend
from segnext.app.schema import SharedConfig
from segnext.backend.world import current_world
from segnext.distributed.communicator import Communicator, Member
from segnext.distributed.mpirun import pin
from segnext.files import cache_home
from segnext.progress import progress
from segnext.tracking.run_folder import RunFolder
from segnext.tracking.run_supervisor import rank_log

__all__ = ["assemble"]


def assemble(
    config: SharedConfig, open_folder: Callable[[], RunFolder], console: Console, *, jittor: bool = True
) -> tuple[Communicator, RunFolder, list[Member]]:
    """Starts Jittor on this rank's device and joins the others in the folder that rank 0 opens, with its seed.

    Work that needs no ``jittor`` is done by one process alone, without starting it.
    """
    world = current_world()
    if not jittor:
        return Communicator(world), open_folder(), []
    cores = pin(world)
    folder = open_folder() if world.is_main else None
    log = folder.path / "jittor.log" if folder else cache_home() / "ranks" / f"jittor-{os.getpid()}.log"
    with nullcontext() if console.is_terminal else progress(console, "starting Jittor"):
        backend.start(config.device.value, announce=console.print, log=log)
    communicator = Communicator.join(timeout=config.rank_timeout)
    agreed, config.seed = communicator.broadcast((folder, config.seed))
    assert agreed is not None
    if not world.is_main:
        backend.log_to(rank_log(agreed.path, world.rank).with_name(f"jittor-{world.rank}.log"))
    members = communicator.members(cores)
    if communicator.size > 1:
        for member in members:
            console.print(f"  {member}")
    return communicator, agreed, members
