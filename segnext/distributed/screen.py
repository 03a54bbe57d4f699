"""What ranks may show: rank 0 alone speaks, and draws no live progress where mpirun's own output goes into a file.

mpirun gives its ranks a terminal of their own, of no width, whatever it writes to itself.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import MutableMapping

from segnext.distributed.world import World

__all__ = ["prepare_screen"]


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
