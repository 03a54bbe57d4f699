"""How the ranks of a run come together: one folder, one device each, one team. One process is a team of one."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

from rich.console import Console

from segnext import backend
from segnext.config import ScheduleConfig, SharedConfig
from segnext.errors import ConfigError
from segnext.parallel.cores import pin
from segnext.parallel.session import rank_log
from segnext.parallel.team import Member, Team
from segnext.parallel.world import current_world
from segnext.tracking.run_folder import RunFolder

__all__ = ["assemble", "require_divisible"]


def require_divisible(schedule: ScheduleConfig) -> None:
    """Raises ConfigError unless every rank gets the same number of images of a batch, in whole micro-batches."""
    size = current_world().size
    share, rest = divmod(schedule.batch_size, size)
    if rest or not share:
        raise ConfigError(
            f"schedule.batch_size={schedule.batch_size} is the total over all ranks and can't be shared by {size}: "
            f"choose a multiple of {size}"
        )
    if schedule.micro_batch and share % schedule.micro_batch:
        raise ConfigError(
            f"schedule.micro_batch={schedule.micro_batch} must divide the {share} images that each of {size} ranks "
            f"gets of schedule.batch_size={schedule.batch_size}"
        )


def assemble(
    config: SharedConfig, open_folder: Callable[[], RunFolder], console: Console
) -> tuple[Team, RunFolder, list[Member]]:
    """Starts Jittor on this rank's device and joins the others in the folder that rank 0 opens."""
    world = current_world()
    cores = pin(world)
    announce = partial(console.print, markup=False)
    folder = open_folder() if world.leads else None
    log = folder.path / "jittor.log" if folder else backend.home() / "ranks" / f"jittor-{os.getpid()}.log"
    backend.start(config.device.value, announce=announce, log=log)
    team = Team.join(timeout=config.rank_timeout)
    agreed = team.agree(folder)
    assert agreed is not None
    if not world.leads:
        backend.log_to(rank_log(agreed.path, world.rank).with_name(f"jittor-{world.rank}.log"))
    members = team.members(cores)
    if team.size > 1:
        for member in members:
            console.print(f"  {member}", markup=False)
    return team, agreed, members
