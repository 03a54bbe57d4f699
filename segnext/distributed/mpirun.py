"""Starts a command as several ranks on this machine, through mpirun, and gives each rank its cores and its screen.

mpirun, asked to stop, kills its ranks after half a second. So a stop is passed on as SIGUSR1, which mpirun hands to
every rank and after which a training saves and ends. mpirun binds each of a few ranks to one single core by default,
which starves OpenMP and the workers that load data; so ranks bind themselves. And it gives its ranks a terminal of no
width, whatever it writes to itself; so rank 0 alone speaks, and draws no live progress where the output is a file.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, MutableMapping, Sequence
from types import FrameType

from segnext.backend.world import World, find_program

__all__ = ["PIN", "launch", "mpirun_command", "pin", "prepare_screen", "ranks_environment", "share"]

PIN = "SEGNEXT_PIN"  # 0 in the environment: ranks stay unbound

_RULER, _EPILOGUE = b"-" * 74, b"exited with non-zero status"  # of a block that mpirun itself prints
_LAST_WORDS = 2.0  # seconds
_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1


def mpirun_command(command: Sequence[str], ranks: int) -> list[str]:
    """mpirun's command line. Ranks bind themselves to cores (see ``pin``), and may outnumber them."""
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
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C in the terminal reaches the ranks through this process alone
        preexec_fn=die_with_parent,
    )
    assert mpirun.stderr is not None
    speaker = threading.Thread(target=_pass_on_without_epilogue, args=(mpirun.stderr,), daemon=True)
    speaker.start()
    received: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        received.append(number)
        impatient = received.count(signal.SIGINT) > 1
        mpirun.send_signal(signal.SIGTERM if impatient else signal.SIGUSR1)

    wanted = [n for n in _STOPS if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]  # nohup ignores it
    previous = {number: signal.signal(number, pass_on) for number in wanted}
    try:
        code = mpirun.wait()
        speaker.join(_LAST_WORDS)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if received and code:
        return 128 + received[0]
    return code if code >= 0 else 128 - code


def _pass_on_without_epilogue(lines: Iterable[bytes]) -> None:
    """Writes mpirun's errors to ours, without its report that a rank has ended with an exit code: the rank said why."""
    block: list[bytes] = []
    for line in lines:
        if not block and line.rstrip() != _RULER:
            _write(line)
            continue
        block.append(line)
        if len(block) > 1 and line.rstrip() == _RULER:
            if not any(_EPILOGUE in part for part in block):
                _write(b"".join(block))
            block = []
    _write(b"".join(block))


def _write(text: bytes) -> None:
    sys.stderr.write(text.decode(errors="backslashreplace"))
    sys.stderr.flush()


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


def prepare_screen(world: World, environment: MutableMapping[str, str]) -> None:
    """Silences ``sys.stdout`` of all ranks but 0, and tells rank 0 what its screen really is."""
    if not world.is_main:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        return
    width = _width(os.getppid())
    if width is None:
        environment["TERM"] = "dumb"
    else:
        environment.setdefault("COLUMNS", str(width))


def _width(mpirun: int) -> int | None:
    """Columns of the terminal that mpirun writes to; None if it is no terminal."""
    with contextlib.suppress(OSError):
        screen = os.open(f"/proc/{mpirun}/fd/1", os.O_WRONLY | os.O_NOCTTY)
        try:
            return os.get_terminal_size(screen).columns
        finally:
            os.close(screen)
    return None
