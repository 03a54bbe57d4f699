"""Starts Jittor on a device, offline, from any folder, and leaves the user's screen and signals alone.

Jittor decides while it is imported: it looks for a compiler, an ``nvcc`` and oneDNN, downloads what it misses,
compiles its core and installs signal handlers. ``start()`` prepares each of these. Nobody else imports Jittor.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import importlib
import os
import signal
import ssl
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from segnext.backend.compile_cache import CompileCache
from segnext.backend.compiling import compile_core, count_operators
from segnext.backend.core import compile_processes, gather_core
from segnext.backend.device import DEVICES, choose_device
from segnext.backend.lazy import use
from segnext.backend.logs import into_log, log_path, move_stderr
from segnext.backend.packages import check_packages, lay_onednn
from segnext.backend.world import current_world, enter_mpi, leave_mpi
from segnext.errors import BackendError

__all__ = ["allow_tf32", "device_name", "release_memory", "seed_everything", "start"]

# Jittor's handlers end the process at once on Ctrl-C and when any child process dies.
_SIGNALS = (signal.SIGINT, signal.SIGCHLD, signal.SIGQUIT)

_jittor: Any = None
_device = ""


def start(device: str = "auto", *, announce: Callable[[str], None] | None = None, log: Path | None = None) -> Any:
    """Prepares the environment, imports Jittor and returns the module; later calls return it at once.

    Args:
        device: ``auto`` takes a CUDA device where one is usable, else the CPU; ``cuda`` insists; ``cpu`` ignores GPUs.
        announce: called with one line before something that takes minutes (the first compilation of the core), and
            where ``auto`` leaves a GPU unused.
        log: file for all that Jittor and its compilers print to descriptor 2 until the process ends. Without it the
            descriptors are left as they are, and only what is printed during the start goes to ``default_log()``.

    Raises:
        BackendError: a piece is missing or of the wrong version, or another device was asked for after the first call.
    """
    global _jittor, _device
    if device not in DEVICES:
        raise BackendError(f"device={device} is unknown: choose one of {', '.join(DEVICES)}")
    if _jittor is not None:
        if device not in ("auto", _device):
            raise BackendError(f"Jittor already runs on {_device} in this process, device={device} needs a new one")
        return _jittor
    check_packages()
    world = current_world()
    chosen = choose_device(device, announce)
    enter_mpi(world, os.environ)
    cache = CompileCache.of_this_machine(chosen)
    cache.enter(os.environ)
    # OpenMP threads that spin at every barrier cost a factor of 4 as soon as another program wants a core.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("gdb_path", "")  # which takes long to tell its version, and longer to trace a crash
    if log is not None:
        move_stderr(log)
    count_operators(cache.home / "compiling", screen=sys.stderr.fileno() if log is not None else None)
    lay_onednn(cache.home)
    with into_log(), cache.jittor_found(), _interpreter_kept():
        utilities = importlib.import_module("jittor_utils")
        gather_core(utilities)
    stamp = Path(utilities.cache_path) / ("core-is-ready" if world.size == 1 else "core-is-ready-with-mpi")
    if not stamp.exists():
        compile_core(stamp, announce, chosen)
    for kind in (np.float32, np.float64):
        np.finfo(kind)  # kept by NumPy; once Jittor has set flush-to-zero, working it out would print warnings
    with into_log(), cache.jittor_found(), _signals_kept():
        jittor = _import_jittor(stamp)
    jittor.flags.python_path = f"exec {cache.python}"  # or else the shell before it would die of a signal to all
    jittor.flags.use_parallel_op_compiler = compile_processes()
    _end_compilers(utilities)
    leave_mpi(os.environ)  # child processes are no ranks
    if chosen == "cuda" and not jittor.has_cuda:
        raise BackendError(
            f"Jittor came up without CUDA, the reason is in {log_path()}; device=cpu trains on the processor"
        )
    _device = chosen
    jittor.flags.use_cuda = int(_device == "cuda")  # before any model is built: layers choose their kernels then
    # Else every `jt.array` waits for the GPU, copies its memory to the host and the values back, blocking; so they are
    # copied from pinned memory, asynchronously. The arrays of the CPU itself need not be pinned.
    jittor.flags.use_cuda_host_allocator = 0
    _jittor = jittor
    return jittor


def device_name() -> str:
    """``cpu`` or ``cuda`` after ``start()``, else an empty string."""
    return _device


def seed_everything(seed: int) -> None:
    """Seeds Jittor's, NumPy's and Python's global generators (0 ≤ seed < 2³¹)."""
    start().set_global_seed(seed)


def allow_tf32(allowed: bool) -> None:
    """Lets dense float32 convolutions on a GPU round their factors to TF32, or not; other products are never rounded.

    Jittor has one flag for both: any value but 0 allows tensor cores in cuDNN's convolutions (together with our
    cudnn.h), while its matrix products by cuBLAS round for the values 1, 2 and 3 alone. So -1 rounds the convolutions
    and nothing else.
    """
    start().flags.use_tensorcore = -1 if allowed else 0


def release_memory() -> None:
    """Gives the memory of freed arrays back to the system.

    Jittor and the C library keep freed blocks for arrays of the same size; over images of many sizes they pile up.
    """
    start().gc()
    with contextlib.suppress(AttributeError):  # a C library other than glibc
        _c_library().malloc_trim(0)


@functools.cache
def _c_library() -> ctypes.CDLL:
    return ctypes.CDLL(None)  # each call would make classes anew that are never freed


def _import_jittor(stamp: Path) -> Any:
    try:
        return importlib.import_module("jittor")
    except SystemExit as error:  # "please rerun": another program has changed this very cache
        stamp.unlink(missing_ok=True)
        raise BackendError(
            "Jittor's compile cache was out of date and is renewed now: run the command again"
        ) from error
    except Exception as error:
        raise BackendError(
            f"Jittor could not be imported ({error}); the compiler's output is in {log_path()}"
        ) from error


def _end_compilers(utilities: Any) -> None:
    """Ends the processes that have compiled during the import, which Jittor keeps idle until the exit.

    A signal to the whole group, from Ctrl-C or a cluster, would kill them, and the exit would wait for them forever.
    """
    if utilities.pool_size:
        atexit.unregister(utilities.pool_cleanup)
        utilities.pool_cleanup()
        utilities.pool_size = 0  # makes new ones where they are needed again


@contextlib.contextmanager
def _interpreter_kept() -> Iterator[None]:
    """Keeps the limit of recursion and the check of certificates, which Jittor switches off for the whole process."""
    limit, context = sys.getrecursionlimit(), ssl._create_default_https_context
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)
        ssl._create_default_https_context = context


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Puts the handlers back that stood before."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            with contextlib.suppress(ValueError):  # Python changes them in its main thread alone
                signal.signal(number, signal.SIG_DFL if handler is None else handler)


use(start)
