"""Python objects exchanged between the ranks of a run; in one process every method gives back what it got."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from segnext import backend
from segnext.backend.world import World, current_world
from segnext.distributed.hang_timer import HangTimer
from segnext.errors import BackendError

__all__ = ["Communicator", "Member"]

T = TypeVar("T")


@dataclass(frozen=True)
class Member:
    """Where a rank runs."""

    rank: int
    host: str
    pid: int
    device: str
    cores: tuple[int, ...]

    def __str__(self) -> str:
        cores = _ranges(self.cores)
        place = f"{self.device}, cores {cores}" if cores else self.device
        return f"rank {self.rank}: {self.host}, process {self.pid}, {place}"


class Communicator:
    """All ranks of this run. Every rank must call the same methods in the same order.

    Args:
        hang_timer: is told while this rank waits for others.
    """

    def __init__(self, world: World, mpi: Any = None, *, hang_timer: HangTimer | None = None) -> None:
        self.world = world
        self._mpi = mpi
        self.hang_timer = hang_timer or HangTimer(0, rank=world.rank)

    @classmethod
    def join(cls, *, timeout: float = 0) -> Communicator:
        """Joins the ranks that Jittor's start has connected.

        Args:
            timeout: seconds without progress after which a rank ends itself and with it the run; 0 waits forever.

        Raises:
            BackendError: mpi4py is missing.
        """
        backend.start()
        world = current_world()
        if world.size == 1:
            return cls(world)
        try:
            import mpi4py
        except ImportError:
            raise BackendError(
                "several ranks need mpi4py, which is not installed: pip install 'segnext-jittor[mpi]'"
            ) from None
        mpi4py.rc.initialize = mpi4py.rc.finalize = False  # Jittor has done and will do it
        from mpi4py import MPI

        return cls(world, MPI.COMM_WORLD, hang_timer=HangTimer(timeout, rank=world.rank))

    @property
    def is_main(self) -> bool:
        return self.world.is_main

    @property
    def size(self) -> int:
        return self.world.size

    def broadcast(self, value: T) -> T:
        """Rank 0's ``value``, on every rank."""
        if self._mpi is None:
            return value
        with self.hang_timer.waiting():
            agreed: T = self._mpi.bcast(value, root=0)
        return agreed

    def all_gather(self, value: T) -> list[T]:
        """The values of all ranks in their order, on every rank."""
        if self._mpi is None:
            return [value]
        with self.hang_timer.waiting():
            return list(self._mpi.allgather(value))

    def barrier(self) -> None:
        """Waits until every rank has called it."""
        self.all_reduce_max(0)

    def all_reduce_max(self, number: int) -> int:
        """The largest ``number`` of any rank, on every rank."""
        if self._mpi is None:
            return number
        mine, all_ranks = np.array([number], np.int64), np.empty(1, np.int64)
        from mpi4py import MPI

        with self.hang_timer.waiting():
            self._mpi.Allreduce(mine, all_ranks, op=MPI.MAX)
        return int(all_ranks[0])

    def broadcast_variables(self, variables: Mapping[str, Any]) -> None:
        """Gives every rank the values of rank 0's Jittor variables; names and shapes must agree."""
        if self._mpi is None:
            return
        for variable in variables.values():
            values = np.ascontiguousarray(variable.numpy())
            with self.hang_timer.waiting():
                self._mpi.Bcast(values, root=0)
            if not self.is_main:
                variable.assign(values)

    def members(self, cores: list[int]) -> list[Member]:
        """Where every rank runs."""
        device = backend.device_name()
        if device == "cuda" and "CUDA_VISIBLE_DEVICES" in os.environ:
            visible = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
            device = f"GPU {visible[self.world.local_rank % len(visible)]}"
        elif device == "cuda":
            device = f"GPU {self.world.local_rank}"
        return self.all_gather(Member(self.world.rank, socket.gethostname(), os.getpid(), device, tuple(cores)))


def _ranges(numbers: tuple[int, ...]) -> str:
    """0–3, 7 for (0, 1, 2, 3, 7)."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return ", ".join("–".join(map(str, part)) for part in parts)
