"""A run from its start to its end: its folder, its ranks, and what its status says meanwhile."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext

from rich.console import Console

from segnext import backend
from segnext.app.resolution import to_yaml
from segnext.app.schema import CommonConfig, SharedConfig
from segnext.backend.world import current_world
from segnext.distributed.communicator import Communicator, Member
from segnext.distributed.mpirun import pin
from segnext.errors import ConfigError, found_at_work
from segnext.files import cache_home
from segnext.progress import progress
from segnext.tracking.run_folder import RunFolder
from segnext.tracking.run_supervisor import rank_log
from segnext.training.interrupt import Interrupted, StopSignals

__all__ = ["assemble", "open_run_folder", "recorded"]


def open_run_folder(config: CommonConfig, name: str) -> RunFolder:
    """A new folder below ``output_dir``, or the one named by ``run_folder``, holding the resolved configuration.

    Raises:
        ConfigError: the folder holds a finished run or belongs to one that is at work.
    """
    folder = RunFolder.adopt(config.run_folder) if config.run_folder else RunFolder.create(config.output_dir, name)
    if folder.has_finished:
        raise ConfigError(f"run_folder={config.run_folder} holds a finished run: name another folder")
    folder.claim()
    folder.write_config(to_yaml(config))
    return folder


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


@contextlib.contextmanager
def recorded(folder: RunFolder, *, by: Communicator | None = None, at_once: bool = False) -> Iterator[StopSignals]:
    """Keeps ``status.json`` of the folder: running, then how it ended; rank 0 alone does so.

    Yields the signals to stop, which the work looks at between two images, unless they end it ``at_once``, as they do
    among several ranks.
    """
    stops = StopSignals(at_once=at_once)
    if by is not None and not by.is_main:
        yield stops
        return
    folder.write_status("running")
    try:
        with stops if by is None or by.size == 1 else nullcontext():
            yield stops
    except (Interrupted, KeyboardInterrupt) as error:
        name = error.signal_name if isinstance(error, Interrupted) else "SIGINT"
        folder.write_status("interrupted", exit_reason=name)
        raise
    except BaseException as error:
        found_at_work(error)
        folder.write_status("failed", error=str(error), exit_reason=type(error).__name__)
        raise
    folder.write_status("finished")
