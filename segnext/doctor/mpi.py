"""Whether several ranks can be started on this machine and talk to each other."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys

from segnext.distributed.gpus import find_nccl
from segnext.distributed.mpirun import mpirun_command, ranks_environment
from segnext.distributed.world import find_program
from segnext.doctor.finding import Finding, ok, problem, warning
from segnext.errors import BackendError

__all__ = ["check_mpi"]

_CURE = "pip install 'segnext-jittor[mpi]'"
_SUM = "from mpi4py import MPI; print('sum', MPI.COMM_WORLD.allreduce(1), flush=True)"
_SECONDS = 30


def check_mpi() -> Finding:
    """Lets two ranks add two numbers, if Open MPI is installed."""
    programs = {name: _path(name) for name in ("mpicc", "mpirun")}
    if not any(programs.values()):
        return ok("MPI", "not installed (needed for several GPUs only)")
    for name, path in programs.items():
        if path is None:
            return warning("MPI", f"{name} is missing beside the other programs of Open MPI", _CURE)
    version = re.search(r"\d+\.\d+[.\d]*", _run([str(programs["mpirun"]), "--version"]))
    title = f"Open MPI {version[0] if version else 'of unknown version'} ({programs['mpirun']})"
    if importlib.util.find_spec("mpi4py") is None:
        return warning("MPI", f"{title} without mpi4py", _CURE)
    answer = _run(mpirun_command([sys.executable, "-c", _SUM], 2))
    if answer.count("sum 2") != 2:
        last = (answer.strip().splitlines() or ["no answer"])[-1]
        cure = f"mpi4py and mpirun may be of different MPIs: {_CURE} into an environment of its own"
        return problem("MPI", f"{title}: two ranks do not find each other ({last})", cure)
    nccl = "NCCL between GPUs" if find_nccl() else "no NCCL: GPUs would talk through the processor's memory"
    return ok("MPI", f"{title}: two ranks have talked; {nccl}")


def _path(name: str) -> str | None:
    try:
        return find_program(name)
    except BackendError:
        return None


def _run(command: list[str]) -> str:
    """What a program prints, errors included; empty where it can't be run."""
    try:
        done = subprocess.run(
            command, env=ranks_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
