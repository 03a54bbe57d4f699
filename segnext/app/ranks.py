"""How the ranks of a run come together: one folder, one device each, one team. One process is a team of one."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import IO

from rich.console import Console

from segnext import backend
from segnext.app import SharedConfig, TrainConfig
from segnext.distributed.communicator import Member, Team
from segnext.distributed.cores import pin
from segnext.distributed.session import rank_log
from segnext.distributed.world import current_world
from segnext.files import cache_home
from segnext.tracking.run_folder import RunFolder

__all__ = ["Run", "assemble"]


@dataclass(frozen=True)
class Run:
    """What a training is about and where it is recorded; ``log`` is this rank's own."""

    config: TrainConfig
    team: Team
    folder: RunFolder
    log: IO[str]
    resume: bool


def assemble(
    config: SharedConfig, open_folder: Callable[[], RunFolder], console: Console
) -> tuple[Team, RunFolder, list[Member]]:
    """Starts Jittor on this rank's device and joins the others in the folder that rank 0 opens, with its seed."""
    world = current_world()
    cores = pin(world)
    announce = partial(console.print, markup=False)
    folder = open_folder() if world.leads else None
    log = folder.path / "jittor.log" if folder else cache_home() / "ranks" / f"jittor-{os.getpid()}.log"
    backend.start(config.device.value, announce=announce, log=log)
    team = Team.join(timeout=config.rank_timeout)
    agreed, config.seed = team.agree((folder, config.seed))
    assert agreed is not None
    if not world.leads:
        backend.log_to(rank_log(agreed.path, world.rank).with_name(f"jittor-{world.rank}.log"))
    members = team.members(cores)
    if team.size > 1:
        for member in members:
            console.print(f"  {member}", markup=False)
    return team, agreed, members
