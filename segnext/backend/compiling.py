"""What is said while something compiles: of the core by the process that waits, of operators by the launcher.

Jittor holds Python's lock while operators compile, so no thread of this process could speak.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["SAYS", "compiled_operators", "count_operators", "follow"]

SAYS = "segnext: "

_EVERY = 8.0  # seconds

_counter: Path | None = None


def count_operators(folder: Path, *, screen: int | None) -> None:
    """Lets the launcher count this process's operators in ``folder`` and write to the descriptor ``screen`` of it."""
    global _counter
    folder.mkdir(parents=True, exist_ok=True)
    _counter = folder / str(os.getpid())
    _forget(os.getpid())
    atexit.register(_forget, os.getpid())
    os.environ["SEGNEXT_COMPILED"] = str(_counter)
    os.environ.pop("SEGNEXT_SCREEN", None)
    if screen is not None:
        os.environ["SEGNEXT_SCREEN"] = f"/proc/{os.getpid()}/fd/{screen}"


def compiled_operators() -> int:
    """How many operators this process has had to compile so far."""
    return _counter.stat().st_size if _counter is not None and _counter.exists() else 0


def follow(child: subprocess.Popen[str], announce: Callable[[str], None] | None) -> list[str]:
    """Waits for the process that compiles the core; tells every few seconds how far it is; returns what it has said.

    Its own lines begin with ``SAYS``, the others are Jittor's.
    """
    lines: list[str] = []

    def read() -> None:
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith(SAYS):
                lines.append(line.removeprefix(SAYS).strip())

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    began = time.monotonic()
    while True:
        try:
            child.wait(_EVERY)
            break
        except subprocess.TimeoutExpired:
            if announce is not None:
                state = lines[-1] if lines else "started"
                announce(f"Compiling Jittor's core: {state} ({time.monotonic() - began:.0f} s so far)")
        except BaseException:
            child.kill()
            raise
    reader.join()
    return lines


def _forget(process: int) -> None:
    if _counter is not None and os.getpid() == process:  # not in a child that was forked
        _counter.unlink(missing_ok=True)
        _counter.with_name(f"{_counter.name}.shown").unlink(missing_ok=True)
