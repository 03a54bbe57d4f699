"""Where jobs run: one slot per job at a time, a GPU or a share of the processor cores, held by a lock on a file.

The kernel lets go of a lock when the last process that holds the file ends, so no crash leaves a slot taken. GPUs have
one set of files per user, which all sweeps respect; shares of cores belong to one sweep.
"""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from segnext import backend
from segnext.backend.world import available_cores
from segnext.distributed.mpirun import PIN
from segnext.errors import ConfigError
from segnext.files import FileLock, cache_home

__all__ = ["Slot", "plan_slots", "visible_gpus"]


# Ranks of several jobs at a time would bind themselves to the same cores.
_PINNING: dict[bool, dict[str, str]] = {False: {}, True: {PIN: "0"}}


@dataclass(frozen=True)
class Slot:
    """A place for one job: the files whose locks mean that it is taken, and what its job finds in its environment."""

    name: str
    lock_files: tuple[Path, ...]
    environment: dict[str, str] = field(default_factory=dict)

    def take(self) -> list[FileLock] | None:
        """The slot's locks, or None when a part of it is taken."""
        locks: list[FileLock] = []
        for file in self.lock_files:
            lock = FileLock.take(file)
            if lock is None:
                for taken in locks:
                    taken.release()
                return None
            locks.append(lock)
        return locks


def plan_slots(count: int | None, *, device: str, folder: Path, jobs: int | None = None, ranks: int = 1) -> list[Slot]:
    """The slots of a sweep.

    Args:
        count: jobs at a time; None: as many as there are GPUs for, or 1 without a GPU. More share them.
        device: ``auto``, ``cpu`` or ``cuda`` as for training.
        folder: of the sweep; holds the lock files of shares of cores.
        jobs: how many there are; cores are shared among no more.
        ranks: processes of a job, each of which gets a GPU.

    Raises:
        ConfigError: there are fewer GPUs than a job has ranks.
    """
    gpus = visible_gpus() if device != "cpu" else []
    if gpus:
        home = cache_home() / "slots" / socket.gethostname()
        places = len(gpus) // ranks
        if not places:
            raise ConfigError(f"a job of ranks={ranks} needs {ranks} GPUs and {len(gpus)} are visible: lower ranks")
        slots = []
        for i in range(count or places):
            share, first = i // places, i % places * ranks
            own = gpus[first : first + ranks]
            locks = tuple(home / f"gpu-{gpu}-{share}.lock" for gpu in own)
            environment = {"CUDA_VISIBLE_DEVICES": ",".join(own), **_PINNING[ranks > 1]}
            slots.append(Slot(f"GPU {'+'.join(own)}", locks, environment))
        return slots
    count = count or 1
    threads = max(1, available_cores() // (ranks * min(count, jobs or count)))
    environment = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(threads)}
    environment |= _PINNING[ranks > 1 and count > 1]
    return [Slot(f"CPU {i}", (folder / ".slots" / f"{i}.lock",), environment) for i in range(count)]


def visible_gpus() -> Sequence[str]:
    """The CUDA devices this process may use, as ``CUDA_VISIBLE_DEVICES`` names them; empty without a usable one."""
    if backend.cuda_problem():
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    count = ctypes.c_int(0)
    ctypes.CDLL("libcuda.so.1").cuDeviceGetCount(ctypes.byref(count))
    return [str(i) for i in range(count.value)]
