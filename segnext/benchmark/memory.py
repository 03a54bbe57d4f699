"""Peak memory of this process since it was last asked to forget. Needs neither Jittor nor PyTorch."""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path

__all__ = ["forget_peak", "peak_bytes"]


def forget_peak() -> None:
    """Begins a new measurement; where the system cannot (not Linux), the peak stays that of the whole process."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_bytes() -> int:
    """The largest resident set since ``forget_peak``: weights, activations, and the libraries themselves."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) * 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
