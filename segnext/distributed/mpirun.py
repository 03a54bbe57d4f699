"""Starts a command as several ranks on this machine, through mpirun, and ends them in an orderly way.

mpirun itself, asked to stop, kills its ranks after half a second. So a stop is passed on as SIGUSR1, which mpirun hands
to every rank and after which a training saves and ends.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Sequence
from types import FrameType

from segnext.distributed.world import find_program

__all__ = ["launch", "mpirun_command", "ranks_environment"]

_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
_PR_SET_PDEATHSIG = 1


def mpirun_command(command: Sequence[str], ranks: int) -> list[str]:
    """mpirun's command line. Ranks bind themselves to cores (``segnext.distributed.cores``), and may outnumber them."""
    return [find_program("mpirun"), "-np", str(ranks), "--bind-to", "none", "--map-by", ":OVERSUBSCRIBE", *command]


def ranks_environment() -> dict[str, str]:
    """This process's environment, with mpirun's leave to work for root, as in a container.

    What srun has said to this process as its own single rank would confuse mpirun.
    """
    own = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PMIX_") or name.startswith("PMIX_MCA_")
    }
    allowed = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return own | (allowed if os.geteuid() == 0 else {})


def launch(command: Sequence[str], ranks: int) -> int:
    """Runs ``command`` as ``ranks`` processes to their end; returns the exit code, 128 + N after a stop by signal N.

    Raises:
        BackendError: Open MPI is not installed.
    """
    parent = os.getpid()

    def die_with_parent() -> None:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    mpirun = subprocess.Popen(
        mpirun_command(command, ranks),
        env=ranks_environment(),
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C in the terminal reaches the ranks through this process alone
        preexec_fn=die_with_parent,
    )
    received: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        received.append(number)
        impatient = received.count(signal.SIGINT) > 1
        mpirun.send_signal(signal.SIGTERM if impatient else signal.SIGUSR1)

    previous = {number: signal.signal(number, pass_on) for number in _STOPS}
    try:
        code = mpirun.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if received and code:
        return 128 + received[0]
    return code if code >= 0 else 128 - code
