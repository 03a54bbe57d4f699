"""This process among the others: its rank, as its launcher tells the environment, and the cores that it may use."""

from __future__ import annotations

import functools
import os
import re
import shutil
import sys
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

from segnext.errors import BackendError

__all__ = ["World", "available_cores", "current_world", "enter_mpi", "find_program", "leave_mpi", "read_world"]

_LAUNCHER = ("OMPI_", "PMIX_", "PRTE_")  # what mpirun tells its ranks


@dataclass(frozen=True)
class World:
    """This process among those of its run.

    Attributes:
        rank, size: 0 ≤ rank < size, over all machines.
        local_rank, local_size: the same among the processes on this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes, logs and tracks."""
        return self.rank == 0


@functools.cache
def current_world() -> World:
    """``read_world`` of this process's environment as it was at first."""
    return read_world(os.environ)


def read_world(environment: Mapping[str, str]) -> World:
    """The world that Open MPI's mpirun or ``srun --mpi=pmix`` has made; one process without them.

    Raises:
        BackendError: several processes were started in a way in which they can't find each other.
    """
    if "OMPI_COMM_WORLD_SIZE" in environment:
        names = ("RANK", "SIZE", "LOCAL_RANK", "LOCAL_SIZE")
        return World(*(int(environment[f"OMPI_COMM_WORLD_{name}"]) for name in names))
    tasks = int(environment.get("SLURM_STEP_NUM_TASKS", 1)) if "SLURM_PROCID" in environment else 1
    if tasks > 1:
        if "PMIX_RANK" not in environment:
            raise BackendError(f"srun has started {tasks} processes that don't know each other: add --mpi=pmix to srun")
        node = int(environment.get("SLURM_NODEID", 0))
        return World(
            int(environment["PMIX_RANK"]),
            tasks,
            int(environment.get("SLURM_LOCALID", 0)),
            _tasks_per_node(environment.get("SLURM_STEP_TASKS_PER_NODE", str(tasks)))[node],
        )
    if int(environment.get("PMI_SIZE", 1)) > 1:
        raise BackendError(
            f"another MPI than Open MPI has started {environment['PMI_SIZE']} processes: Jittor knows Open MPI alone, "
            "`pip install 'segnext-jittor[mpi]'` brings its mpirun"
        )
    return World()


def available_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def find_program(name: str) -> str:
    """The path of Open MPI's ``mpicc`` or ``mpirun``: the one on the PATH, else that of the installed wheel.

    Raises:
        BackendError: there is none.
    """
    path = shutil.which(name) or shutil.which(name, path=os.path.join(sys.prefix, "bin"))
    if path is None:
        raise BackendError(f"several ranks need Open MPI and {name} was not found: pip install 'segnext-jittor[mpi]'")
    return path


def enter_mpi(world: World, environment: MutableMapping[str, str]) -> None:
    """Lets Jittor, when it is imported, join the ranks; or leaves MPI alone in a run of one process."""
    if world.size == 1:
        environment["use_mpi"] = "0"
        leave_mpi(environment)
        return
    environment["use_mpi"] = "1"
    environment["mpicc_path"] = find_program("mpicc")
    environment["OMPI_COMM_WORLD_SIZE"] = str(world.size)  # what Jittor looks for; srun doesn't set it


def leave_mpi(environment: MutableMapping[str, str]) -> None:
    """Removes what would make a child process take itself for a rank."""
    for name in [name for name in environment if name.startswith(_LAUNCHER)]:
        del environment[name]


def _tasks_per_node(text: str) -> list[int]:
    """SLURM's short form, for example ``2(x3),1``: 2, 2, 2 and 1 tasks."""
    counts: list[int] = []
    for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", text):
        counts += [int(count)] * int(times or 1)
    return counts
