"""A tiny compile-and-run of Jittor, in a process of its own: what dies there is found out and does no harm."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segnext import backend
from segnext.backend.compile_cache import jittor_home
from segnext.doctor import Finding, ok, problem, warning
from segnext.errors import SegNeXtError
from segnext.files import cache_home, package_environment

__all__ = ["TrialResult", "check_cache", "check_onednn", "check_trial", "child", "run_trial", "size"]

_COMMAND = "import sys; from segnext.doctor.trial import child; child(sys.argv[1])"
_ONEDNN = "onednn-devel-cpu-gomp"
_TOLERANCE = 1e-3
_SLOW_START = 60.0


@dataclass(frozen=True)
class TrialResult:
    """How the trial went.

    Attributes:
        error: why it failed; empty when it did not.
        device: ``cpu`` or ``cuda``.
        start_seconds: from the process's first line to the imported Jittor.
        run_seconds: compiling (unless cached) and running the operators.
        deviation: largest difference from the same figures by NumPy.
        cold: whether Jittor's core had to be compiled first.
        onednn: whether Jittor uses oneDNN.
        cache: the folder of what was compiled.
    """

    error: str = ""
    device: str = ""
    start_seconds: float = 0.0
    run_seconds: float = 0.0
    deviation: float = 0.0
    cold: bool = False
    onednn: bool = False
    cache: str = ""


def run_trial(
    device: str = "auto", *, announce: Callable[[str], None] | None = None, timeout: float = 900.0
) -> TrialResult:
    """Starts Jittor in a child process and lets it compute a convolution, a product and their gradients.

    Args:
        device: as for ``backend.start``.
        announce: called with one line before something that takes minutes.
        timeout: seconds until the child is ended and the trial counts as failed.
    """
    began = time.monotonic()
    record: dict[str, Any] = {}
    cold = False
    process = subprocess.Popen(
        [sys.executable, "-c", _COMMAND, device],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        text=True,
        env=package_environment(),
    )
    with process, _killed_after(timeout, process):
        for line in process.stdout or ():
            with contextlib.suppress(ValueError):  # a line that is not ours
                message = json.loads(line)
                if "announce" in message:
                    cold = True
                    if announce is not None:
                        announce(message["announce"])
                else:
                    record = message
    if record:
        return TrialResult(**record, cold=cold)
    how = f"signal {-process.returncode}" if process.returncode < 0 else f"exit code {process.returncode}"
    if time.monotonic() - began >= timeout:
        how = f"no result within {timeout:.0f} s"
    return TrialResult(error=f"Jittor's process ended with {how}; its output is in {_log()}", cold=cold)


def check_trial(result: TrialResult) -> Finding:
    if result.error:
        return problem("Trial", result.error)
    if not result.deviation <= _TOLERANCE:  # so that NaN is wrong, too
        text = f"wrong figures: {result.deviation:.1e} away from NumPy's"
        return problem("Trial", text, f"delete the compile cache {result.cache} and try again")
    text = (
        f"ran on {result.device}: {result.start_seconds:.1f} s to start, {result.run_seconds:.1f} s to compile and run"
    )
    if not result.cold and result.start_seconds > _SLOW_START:
        return warning("Trial", text, "a warm start takes seconds: is the cache on a slow (network) disk?")
    return ok("Trial", text)


def check_onednn(result: TrialResult | None) -> Finding:
    """Whether Jittor uses oneDNN; without a trial, whether its wheel is installed."""
    try:
        version = importlib.metadata.version(_ONEDNN)
    except importlib.metadata.PackageNotFoundError:
        version = ""
    tried = result is not None and not result.error
    used = result.onednn if result is not None and tried else bool(version)
    if not used:
        text = "not used: convolutions on the CPU are many times slower"
        if os.environ.get("use_mkl") == "0":
            return warning("oneDNN", text, "unset the environment variable use_mkl")
        return warning("oneDNN", text, f"pip install {_ONEDNN}==2022.2.1 (Linux on x86-64)")
    return ok(
        "oneDNN", f"{'used' if tried else 'installed'}, {f'wheel {version}' if version else 'a copy in the cache'}"
    )


def check_cache(result: TrialResult | None) -> Finding:
    """Where the compile cache is, its size, and whether the first start of a run will be quick."""
    home = next((path for path in Path(result.cache).parents if path.name == "jittor"), None) if result else None
    home = home or _compiled_code()
    text = f"{home}, {size(home) / 1e9:.1f} GB"
    if result is None:
        return ok("Cache", text)
    if result.error:
        return ok("Cache", f"{text}, {'cold' if result.cold else 'state unknown'}")
    return ok("Cache", f"{text}, {'was cold, is warm now' if result.cold else 'warm'}")


def _compiled_code() -> Path:
    """The folder in which Jittor keeps what it compiles."""
    return jittor_home().resolve() / ".cache" / "jittor"


def size(folder: Path) -> int:
    """Bytes of all files below ``folder``; those that vanish meanwhile are left out."""
    total = 0
    for path, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.lstat(os.path.join(path, name)).st_size
            except OSError:
                continue
    return total


def child(device: str) -> None:
    """What runs in the child process: writes one JSON object a line to its standard output."""
    try:
        _send(_try_out(device))
    except SegNeXtError as error:  # names its cure itself
        _send({"error": str(error)})
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        _send({"error": f"{type(error).__name__}: {first}; the compiler's output is in {_log()}"})


def _try_out(device: str) -> dict[str, Any]:
    began = time.perf_counter()
    jt = backend.start(device, announce=lambda line: _send({"announce": line}), log=_log())
    started = time.perf_counter()
    rng = np.random.default_rng(0)
    image = rng.standard_normal((1, 3, 8, 8)).astype(np.float32)
    kernel = rng.standard_normal((4, 3, 1, 1)).astype(np.float32)
    weight = rng.standard_normal((64, 5)).astype(np.float32)
    # A 1×1 convolution is a matrix product, so that NumPy can say what must come out.
    features = np.einsum("oi,bihw->bohw", kernel[:, :, 0, 0], image)
    wanted = [features.reshape(4, 64) @ weight, features.reshape(4, 64).sum(axis=0)[:, None].repeat(5, axis=1)]

    var = jt.array(weight)
    output = jt.matmul(jt.nn.conv2d(jt.array(image), jt.array(kernel)).reshape(4, 64), var)
    found = [output.numpy(), jt.grad(output.sum(), var).numpy()]
    return {
        "device": backend.device_name(),
        "start_seconds": started - began,
        "run_seconds": time.perf_counter() - started,
        "deviation": float(max(np.abs(a - b).max() for a, b in zip(found, wanted, strict=True))),
        "onednn": jt.compile_extern.mkl_ops is not None,
        "cache": str(jt.compiler.cache_path),
    }


def _send(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


@contextlib.contextmanager
def _killed_after(seconds: float, process: subprocess.Popen[str]) -> Iterator[None]:
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _log() -> Path:
    return cache_home() / "jittor.log"
