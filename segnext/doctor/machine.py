"""All checks of this machine, in the order in which they are shown; here are those of its compiler, memory and GPU."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from segnext import backend
from segnext.backend.cuda.driver import read_card
from segnext.backend.cuda.pieces import EXTRA, survey
from segnext.backend.cuda.toolkit import read_toolkit
from segnext.backend.device import find_nccl
from segnext.backend.world import available_cores, find_program
from segnext.distributed.mpirun import mpirun_command, ranks_environment
from segnext.doctor import Finding, State, guarded, ok, problem, warning
from segnext.doctor.packages import check_jittor, check_numpy, check_python, check_requirements, check_wandb
from segnext.doctor.trial import TrialResult, check_cache, check_onednn, check_trial, run_trial
from segnext.errors import BackendError
from segnext.files import cache_home
from segnext.lazy import LazyModule

__all__ = [
    "check_compiler",
    "check_cuda",
    "check_folder",
    "check_gpu",
    "check_memory",
    "check_mpi",
    "check_processor",
    "examine_machine",
]

psutil: Any = LazyModule("psutil")  # a check may fail and this module may not

_GB = 1e9
_LEAST_MEMORY = 2 * _GB  # what the compiler and a small model take together

_SOURCE = """
#include <Python.h>
#include <omp.h>
int threads() { return omp_get_max_threads(); }
"""

_CUDNN_FOLDERS = ("/usr/include", "/usr/include/x86_64-linux-gnu", "/usr/include/aarch64-linux-gnu")


Check = tuple[str, Callable[[], Finding]]


def examine_machine(
    *,
    device: str = "auto",
    output_dir: str | Path = "outputs",
    trial: bool = True,
    announce: Callable[[str], None] | None = None,
) -> Iterator[Finding]:
    """Yields one finding after the other, as soon as it is there; never raises.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``, as for ``backend.start``.
        output_dir: where runs will leave their folders.
        trial: let Jittor compile and run something; after a problem before it, that is left out.
        announce: called with one line before something that takes minutes.
    """
    needed: tuple[Check, ...] = (
        ("Python", check_python),
        ("Packages", check_requirements),
        ("NumPy", check_numpy),
        ("Jittor", check_jittor),
        ("Compiler", check_compiler),
    )
    others: tuple[Check, ...] = (
        ("CPU", check_processor),
        ("Memory", check_memory),
        ("GPU", lambda: check_gpu(device)),
        ("CUDA", check_cuda),
        ("MPI", check_mpi),
        ("W&B", check_wandb),
        ("Outputs", lambda: check_folder("Outputs", output_dir)),
        ("Caches", lambda: check_folder("Caches", cache_home())),
    )
    can_try = True
    for topic, check in needed:
        yield (finding := guarded(topic, check))
        can_try = can_try and finding.state is not State.problem
    for topic, check in others:
        yield guarded(topic, check)
    result: TrialResult | None = None
    if trial and can_try:
        result = run_trial(device, announce=announce)
        yield check_trial(result)
    elif trial:
        yield ok("Trial", "left out because of the problems above")
    yield guarded("oneDNN", lambda: check_onednn(result))
    yield guarded("Cache", lambda: check_cache(result))


def check_compiler() -> Finding:
    """Compiles a few lines with OpenMP and Python's headers, as Jittor will."""
    name = os.environ.get("cc_path") or "g++"
    path = shutil.which(name)
    if path is None:
        return problem("Compiler", f"{name} not found", "install g++ (Debian, Ubuntu: apt install g++)")
    version = _output(path, "-dumpfullversion", "-dumpversion").strip()
    include = sysconfig.get_paths()["include"]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "trial.cc")
        source.write_text(_SOURCE)
        command = [path, "-std=c++14", "-fopenmp", "-fPIC", "-shared", f"-I{include}", str(source)]
        done = subprocess.run(
            [*command, "-o", f"{folder}/trial.so"], capture_output=True, text=True, timeout=120, check=False
        )
    title = f"{Path(path).name} {version}"
    if done.returncode == 0:
        return ok("Compiler", f"{title}, with OpenMP and Python's headers")
    if "Python.h" in done.stderr:
        short = f"{sys.version_info.major}.{sys.version_info.minor}"
        cure = f"install Python's headers (Debian, Ubuntu: apt install python{short}-dev)"
        return problem("Compiler", f"{title} finds no {include}/Python.h", cure)
    if "omp" in done.stderr:
        return problem("Compiler", f"{title} has no OpenMP", "install GCC's g++ with libgomp, or set cc_path to one")
    first = next((line for line in done.stderr.splitlines() if "error" in line), "it ended with an error")
    return problem("Compiler", f"{title} cannot compile: {first}", "reinstall g++, or set cc_path to another one")


def check_processor() -> Finding:
    cores = available_cores()
    load = os.getloadavg()[0]
    text = f"{_processor_name()}, {cores} core{'s' * (cores > 1)}"
    if load > cores + 1:
        busy = f"{text}; busy with other programs (load {load:.1f})"
        return warning("CPU", busy, "timings come out too slow: wait until they are done")
    return ok("CPU", text)


def check_memory() -> Finding:
    memory = psutil.virtual_memory()
    limit = _container_limit()
    total = min(memory.total, limit or memory.total)
    free = min(memory.available, total)
    text = f"{free / _GB:.1f} of {total / _GB:.1f} GB free"
    if limit is not None and limit < memory.total:
        text += f" (this container's limit; the machine has {memory.total / _GB:.1f} GB)"
    if free < _LEAST_MEMORY:
        return warning("Memory", text, "end other programs; lower schedule.micro_batch and workers when training")
    return ok("Memory", text)


def check_gpu(device: str = "auto") -> Finding:
    """The GPU, or why none is used; that is a problem only where ``device`` insists on one."""
    reason = backend.cuda_problem()
    if device == "cuda" and reason:
        return problem("GPU", reason, "cure that, or use device=cpu")
    cards = _cards()
    if not reason:
        return ok("GPU", "; ".join(cards) or "usable (nvidia-smi, which would name it, is missing)")
    if cards:
        return warning("GPU", f"not used: {reason}. Present: {'; '.join(cards)}", "until then the CPU is used")
    return ok("GPU", f"none, the CPU is used: {reason}")


def check_cuda() -> Finding:
    """The CUDA that Jittor would get: a toolkit that suits it, or the pieces of CUDA 13."""
    nvcc = os.environ.get("nvcc_path") or shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
    text = "no nvcc"
    if nvcc:
        toolkit = read_toolkit(Path(nvcc))
        if toolkit is None:
            return warning("CUDA", f"{nvcc} does not run", "reinstall the CUDA toolkit, or use device=cpu")
        cudnn = _cudnn_version(Path(nvcc).resolve().parents[1])
        text = f"nvcc {toolkit.release}, {f'cuDNN {cudnn}' if cudnn else 'no cuDNN'} ({nvcc})"
        if toolkit.suits_jittor():
            return ok("CUDA", text)
    pieces = survey()
    if not pieces.missing:
        return ok("CUDA", ", ".join(f"{found.piece.wheel} {found.version}".strip() for found in pieces.found))
    try:
        read_card()
    except BackendError:
        return ok("CUDA", f"{text} (needed with a GPU only)")
    missing = ", ".join(piece.wheel for piece in pieces.missing)
    return warning("CUDA", f"{text}; missing of CUDA 13: {missing}", f'pip install "segnext-jittor[{EXTRA}]"')


def _output(*command: str) -> str:
    """What a program prints; empty where it cannot be run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.machine()
    name = re.search(r"^model name\s*:\s*(.+)$", lines, re.MULTILINE)
    return " ".join(name[1].split()) if name else platform.machine()


def _container_limit() -> int | None:
    """Bytes that the control group allows (version 2, then 1); None without a limit."""
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(file).read_text(encoding="ascii").strip()
        except OSError:
            continue
        return int(text) if text.isdigit() else None
    return None


def _cards() -> list[str]:
    """One line per GPU, as the driver's own tool names them."""
    query = "--query-gpu=name,memory.total,memory.free,driver_version"
    cards = []
    for line in _output("nvidia-smi", query, "--format=csv,noheader,nounits").splitlines():
        name, total, free, driver = (part.strip() for part in line.split(","))
        memory = f"{int(free) / 1024:.0f} of {int(total) / 1024:.0f} GiB free, " if total.isdigit() else ""
        cards.append(f"{name}, {memory}driver {driver}")
    return cards


def _cudnn_version(cuda_home: Path) -> str | None:
    for folder in (cuda_home / "include", *map(Path, _CUDNN_FOLDERS)):
        try:
            text = (folder / "cudnn_version.h").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        parts = [re.search(rf"#define CUDNN_{part}\s+(\d+)", text) for part in ("MAJOR", "MINOR", "PATCHLEVEL")]
        if all(parts):
            return ".".join(part[1] for part in parts if part)
    return None


_LOW, _TOO_LOW = 5 * _GB, 0.5 * _GB


def check_folder(topic: str, folder: str | Path) -> Finding:
    """Whether ``folder`` can be made or written, and how much space its disk has."""
    place = Path(folder).expanduser().absolute()
    existing = next(path for path in (place, *place.parents) if path.exists())
    if not existing.is_dir():
        return problem(topic, f"{existing} is no folder", "move that file away, or choose another folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        return problem(topic, f"{existing} cannot be written", "choose another folder, or correct its permissions")
    free = shutil.disk_usage(existing).free
    text = f"{free / _GB:.1f} GB free in {place}"
    if free < _TOO_LOW:
        return problem(topic, text, "free some space: runs and compiled operators do not fit")
    if free < _LOW:
        return warning(topic, text, "free some space: a run of a large model takes about 1 GB")
    return ok(topic, text)


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
        last = next((line for line in reversed(answer.splitlines()) if line.strip("- ")), "no answer")
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
