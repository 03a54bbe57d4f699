"""A share of the machine's processor cores for every rank.

mpirun binds each of a few ranks to one single core by default, which starves OpenMP and the workers that load data.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping, Sequence

from segnext.distributed.world import World

__all__ = ["PIN", "pin", "share"]

PIN = "SEGNEXT_PIN"  # 0 in the environment: ranks stay unbound


def share(cores: Sequence[int], world: World) -> list[int]:
    """The cores of this rank: consecutive ones, as many as for every other rank of this machine, at least one."""
    count, rank = len(cores), world.local_rank
    if count < world.local_size:
        return [cores[rank % count]]
    return list(cores[rank * count // world.local_size : (rank + 1) * count // world.local_size])


def pin(world: World, environment: MutableMapping[str, str] = os.environ) -> list[int]:
    """Binds this process and its children to the rank's share of the cores that mpirun itself may use; returns them.

    Under SLURM's srun the share is SLURM's to give; ``SEGNEXT_PIN=0`` leaves ranks unbound. ``OMP_NUM_THREADS``, where
    it isn't set, becomes the size of the share.
    """
    if not hasattr(os, "sched_setaffinity"):
        return []
    by_mpirun = "OMPI_COMM_WORLD_SIZE" in environment
    if world.size > 1 and by_mpirun and environment.get(PIN) != "0":
        os.sched_setaffinity(0, share(sorted(os.sched_getaffinity(os.getppid())), world))
    cores = sorted(os.sched_getaffinity(0))
    if world.size > 1:
        environment.setdefault("OMP_NUM_THREADS", str(len(cores)))
    return cores
