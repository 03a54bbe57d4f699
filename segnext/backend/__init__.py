"""Jittor 1.3.11.0, brought up: the one room that knows what it needs before, during and after its import.

``startup`` starts it on a ``device``; ``compile_cache`` and ``compiler`` see to it that little is compiled, and once;
``logs`` takes what it prints; ``packages`` are those it stands on; ``world`` is about several ranks.
Nothing happens on import: ``jt`` brings Jittor up at the first use.
"""

from segnext.backend.device import DEVICES, cuda_problem
from segnext.backend.lazy import Function, Module, Var, jt
from segnext.backend.logs import default_log, log_to
from segnext.backend.packages import JITTOR_VERSION
from segnext.backend.startup import allow_tf32, device_name, release_memory, seed_everything, start

__all__ = [
    "DEVICES",
    "JITTOR_VERSION",
    "Function",
    "Module",
    "Var",
    "allow_tf32",
    "cuda_problem",
    "default_log",
    "device_name",
    "jt",
    "log_to",
    "release_memory",
    "seed_everything",
    "start",
]
