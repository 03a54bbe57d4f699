"""Brings Jittor up. The only file that knows what Jittor 1.3.11.0 needs before, during and after its import.

Jittor decides while it is imported: it looks for a compiler, an ``nvcc`` and oneDNN, downloads what it misses,
compiles its core and installs signal handlers. ``start()`` prepares each of these so that the import works offline,
from any folder, on a machine with or without a GPU, and leaves the user's screen and signals alone. Nobody else
imports Jittor.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import fcntl
import functools
import importlib
import importlib.metadata
import os
import shutil
import signal
import site
import subprocess
import sys
import sysconfig
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from segnext.backend.cuda import environment
from segnext.backend.cuda.bring_up import find_cuda, prepare
from segnext.backend.cuda.driver import NoDriver, read_card
from segnext.backend.lazy import Function, Module, Var, jt, use
from segnext.distributed.gpus import assign_gpu, present_gpus
from segnext.distributed.world import current_world, enter_mpi, leave_mpi
from segnext.errors import BackendError
from segnext.files import cache_home, link_atomically

__all__ = [
    "DEVICES",
    "Function",
    "Module",
    "Var",
    "allow_tf32",
    "cuda_problem",
    "device_name",
    "jt",
    "log_to",
    "release_memory",
    "seed_everything",
    "start",
]

JITTOR_VERSION = "1.3.11.0"
DEVICES = ("auto", "cpu", "cuda")

# The folder that Jittor would otherwise download: its presence, with these names inside, is all that Jittor checks.
_ONEDNN_FOLDER = "dnnl_lnx_2.2.0_cpu_gomp"

# What Jittor's compile flags depend on, as environment variables.
_SETTINGS = ("nvcc_path", "cc_path", "use_mkl", "cc_flags", "nvcc_flags")

_jittor: Any = None
_device = ""
_log_path: Path | None = None


def start(device: str = "auto", *, announce: Callable[[str], None] | None = None, log: Path | None = None) -> Any:
    """Prepares the environment, imports Jittor and returns the module; later calls return it at once.

    Args:
        device: ``auto`` takes a CUDA device where one is usable, else the CPU; ``cuda`` insists; ``cpu`` ignores GPUs.
        announce: called with one line before something that takes minutes (the first compilation of the core), and
            where ``auto`` leaves a GPU unused.
        log: file for what Jittor and its compilers print; ``jittor.log`` in ``cache_home()`` by default.

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
    _check_packages()
    world = current_world()
    chosen = _choose_device(device, announce)
    enter_mpi(world, os.environ)
    os.environ["cc_path"] = _find_compiler()  # Jittor sets it too; a child process must not see other settings
    os.environ["python_config_path"] = str(_python_config())
    os.environ["cache_name"] = _cache_name(chosen)
    # OpenMP threads that spin at every barrier cost a factor of 4 as soon as another program wants a core.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    _move_stderr(log or cache_home() / "jittor.log")
    with _stdout_to_log():
        utilities = importlib.import_module("jittor_utils")
    _lay_onednn(Path(utilities.home()))
    stamp = Path(utilities.cache_path) / ("core-is-ready" if world.size == 1 else "core-is-ready-with-mpi")
    if not stamp.exists():
        _compile_core(stamp, announce, chosen)
    for kind in (np.float32, np.float64):
        np.finfo(kind)  # kept by NumPy; once Jittor has set flush-to-zero, working it out would print warnings
    with _stdout_to_log(), _without_cupy():
        jittor = _import_jittor(stamp)
    _end_compilers(utilities)
    leave_mpi(os.environ)  # child processes are no ranks
    _take_signals_back()
    if chosen == "cuda" and not jittor.has_cuda:
        raise BackendError(
            f"Jittor came up without CUDA, the reason is in {_log_path}; device=cpu trains on the processor"
        )
    _device = chosen
    jittor.flags.use_cuda = int(_device == "cuda")  # before any model is built: layers choose their kernels then
    _jittor = jittor
    return jittor


def device_name() -> str:
    """``cpu`` or ``cuda`` after ``start()``, else an empty string."""
    return _device


def log_to(path: Path) -> None:
    """Sends to ``path`` from now on what Jittor and its compilers print; what they have printed goes there as well."""
    global _log_path
    assert _log_path is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    before = _log_path.read_bytes() if _log_path.exists() else b""
    _log_path.unlink(missing_ok=True)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(log, before)
    os.dup2(log, 2)
    os.close(log)
    _log_path = path.absolute()


def seed_everything(seed: int) -> None:
    """Seeds Jittor's, NumPy's and Python's global generators (0 ≤ seed < 2³¹)."""
    start().set_global_seed(seed)


def allow_tf32(allowed: bool) -> None:
    """Lets dense float32 convolutions on a GPU round their factors to TF32, or not; other products never are.

    Jittor's flag, 0 or else, decides in its cuDNN calls (together with our cudnn.h) whether tensor cores may be used.
    Its cuBLAS calls take 1 as TF32, too, and 2 and 3 as less; -1 is nothing to them. The NMF is to stay in float32.
    """
    start().flags.use_tensorcore = -1 if allowed else 0


def release_memory() -> None:
    """Gives the memory of freed arrays back to the system.

    Jittor and the C library keep freed blocks for arrays of the same size; over images of many sizes they pile up.
    """
    start().gc()
    with contextlib.suppress(AttributeError):  # a C library other than glibc
        _c_library().malloc_trim(0)


def cuda_problem() -> str:
    """Why no CUDA device can be used here, or an empty string if one can."""
    try:
        find_cuda()
    except BackendError as error:
        return str(error)
    return ""


def _choose_device(device: str, announce: Callable[[str], None] | None) -> str:
    """``cuda`` or ``cpu``, with the environment set for it."""
    world = current_world()
    if device != "cpu":
        try:
            if world.size > 1 and (gpus := present_gpus(os.environ)):  # the driver, once started, keeps what it sees
                assign_gpu(world, gpus, links=cache_home() / "nccl")
            prepare(find_cuda(), cache_home() / "cuda")
            return "cuda"
        except BackendError as error:
            if device == "cuda":
                raise BackendError(f"device=cuda: {error}; device=cpu trains on the processor") from error
            if announce and not isinstance(error, NoDriver):
                announce(f"No GPU is used, but the CPU: {error}")
    os.environ["nvcc_path"] = ""  # with any nvcc but no driver, importing Jittor aborts
    environment.leave(os.environ)
    return "cpu"


@functools.cache
def _c_library() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def _check_packages() -> None:
    """Refuses versions that are known to give wrong results or not to import."""
    try:
        jittor = importlib.metadata.version("jittor")
    except importlib.metadata.PackageNotFoundError:
        raise BackendError(f"Jittor is not installed: pip install jittor=={JITTOR_VERSION}") from None
    if jittor != JITTOR_VERSION:
        raise BackendError(f"Jittor {jittor} is installed, this project is built and tested on {JITTOR_VERSION}")
    numpy = importlib.metadata.version("numpy")
    if int(numpy.split(".")[0]) >= 2:
        raise BackendError(f'NumPy {numpy} gives silent garbage with Jittor: pip install "numpy<2"')


def _find_compiler() -> str:
    name = os.environ.get("cc_path") or "g++"
    path = shutil.which(name)
    if path is None:
        raise BackendError(f"no C++ compiler ({name} not found): install g++ (Debian, Ubuntu: apt install g++)")
    return path


def _python_config() -> Path:
    """A `python-config` of the running interpreter; the one on the PATH may be missing or of another version."""
    include = sysconfig.get_paths()["include"]
    if not Path(include, "Python.h").exists():
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise BackendError(f"{include}/Python.h is missing: install Python's headers (apt install python{version}-dev)")
    script = f"""#!/bin/sh
case "$1" in
  --includes) echo "-I{include}" ;;
  --extension-suffix) echo "{sysconfig.get_config_var("EXT_SUFFIX")}" ;;
  *) exit 1 ;;
esac
"""
    tag = f"{sys.implementation.cache_tag}-{zlib.crc32(script.encode()):08x}"
    path = cache_home() / "python-config" / tag / f"python3.{sys.version_info.minor}-config"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            file.write(script)
        os.chmod(file.name, 0o755)
        os.replace(file.name, path)
    return path


def _lay_onednn(jittor_home: Path) -> None:
    """Links the oneDNN wheel to where Jittor looks for its own download; without the wheel, oneDNN is left out."""
    folder = jittor_home / ".cache" / "jittor" / "mkl" / _ONEDNN_FOLDER
    if (folder / "lib" / "libmkldnn.so").exists() and (folder / "include" / "dnnl.hpp").exists():
        return
    prefix = _onednn_prefix()
    if prefix is None:
        os.environ["use_mkl"] = "0"
        return
    (folder / "lib").mkdir(parents=True, exist_ok=True)
    library = prefix / "lib" / "libdnnl.so.2"
    link_atomically(folder / "include", prefix / "include")
    link_atomically(folder / "lib" / "libdnnl.so.2", library)
    link_atomically(folder / "lib" / "libmkldnn.so", library)


def _onednn_prefix() -> Path | None:
    prefixes = [Path(sys.prefix), Path(site.getuserbase())]
    return next((p for p in prefixes if (p / "include/dnnl.hpp").exists() and (p / "lib/libdnnl.so.2").exists()), None)


def _cache_name(device: str) -> str:
    """A compile cache of our own for these settings, so that no other program's compile flags disturb it.

    Otherwise Jittor names its cache after the git branch of the folder it is installed in. For a GPU the cache is also
    of its compute capability: what was compiled for one does not run on another.
    """
    include = sysconfig.get_paths()["include"]
    settings = "\n".join([sys.version, include, *(f"{key}={os.environ.get(key)}" for key in _SETTINGS)])
    name = f"segnext-{zlib.crc32(settings.encode()):08x}"
    return name if device == "cpu" else "{}-sm{}{}".format(name, *read_card().capability)


def _compile_core(stamp: Path, announce: Callable[[str], None] | None, device: str) -> None:
    """Lets a child process compile the core, and leaves ``stamp`` when it is ready.

    Now and then Jittor's import ends the whole process with code 0 and asks to be started again, because it has
    rebuilt a part of itself; in a child that costs nothing, and this process then finds everything in the cache.
    """
    if announce and device == "cuda":
        announce("Compiling Jittor's core and its CUDA libraries for the first time: some minutes, then it is cached.")
    elif announce:
        announce("Compiling Jittor's core for the first time: about two minutes, then it is cached.")
    command = [sys.executable, "-c", "import sys; sys.modules['cupy'] = None; import jittor; print('ready')"]
    environment = dict(os.environ)
    leave_mpi(environment)
    with (stamp.parent / "core.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several ranks start at the same time
        for _ in range(3):
            if stamp.exists():
                return
            child = subprocess.run(
                command,
                stdout=subprocess.PIPE,
                stdin=subprocess.DEVNULL,
                cwd=stamp.parent,
                env=environment,
                text=True,
            )
            if child.returncode == 0 and "ready" in child.stdout:
                stamp.touch()
    if stamp.exists():
        return
    cure = "; device=cpu trains on the processor" if device == "cuda" else ""
    raise BackendError(f"Jittor's core could not be compiled: the compiler's output is in {_log_path}{cure}")


def _move_stderr(path: Path) -> None:
    """Points file descriptor 2 at the log for good and gives Python's ``sys.stderr`` a descriptor of its own.

    Jittor's C++ side prints to descriptor 2 whenever it compiles an operator, at any time after the import.
    """
    global _log_path
    _log_path = path.absolute()
    _log_path.parent.mkdir(parents=True, exist_ok=True)
    log = os.open(_log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    sys.stderr.flush()
    screen = os.dup(2)
    os.dup2(log, 2)
    os.close(log)
    sys.stderr = open(screen, "w", buffering=1, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115


@contextlib.contextmanager
def _stdout_to_log() -> Iterator[None]:
    """Sends what Python code prints, and what child processes write, to the log."""
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        with open(os.dup(2), "w", buffering=1, encoding="utf-8") as log, contextlib.redirect_stdout(log):
            yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)


@contextlib.contextmanager
def _without_cupy() -> Iterator[None]:
    """Hides CuPy: where it is installed, Jittor opens a device through it, and it may be built for NumPy 2."""
    hidden = "cupy" not in sys.modules
    if hidden:
        sys.modules["cupy"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hidden:
            del sys.modules["cupy"]


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
            f"Jittor could not be imported ({error}); the compiler's output is in {_log_path}"
        ) from error


def _end_compilers(utilities: Any) -> None:
    """Ends the processes that have compiled during the import, which Jittor keeps idle until the exit.

    A signal to the whole group, from Ctrl-C or a cluster, would kill them, and the exit would wait for them forever.
    """
    if utilities.pool_size:
        atexit.unregister(utilities.pool_cleanup)
        utilities.pool_cleanup()
        utilities.pool_size = 0  # makes new ones where they are needed again


def _take_signals_back() -> None:
    """Undoes Jittor's handlers: they end the process at once on Ctrl-C and when any child process dies."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)


use(start)
