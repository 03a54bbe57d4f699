"""Our end of the process in which PyTorch runs the same network."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from segnext.errors import BackendError, ConfigError
from segnext.files import package_environment

__all__ = ["TorchTwin", "default_settings", "torch_interpreter"]


def default_settings(device: str) -> list[str]:
    """How PyTorch is run beside us: plain, and what makes it fast on this kind of device."""
    return ["eager", "tf32", "bf16", "compile"] if device == "cuda" else ["eager", "channels_last"]


class TorchTwin:
    """A context manager around the process; it waits idly while we are timed.

    Attributes:
        peak_bytes, result: the largest memory so far, and what the last call of ``run`` counted.

    Raises:
        ConfigError: PyTorch is nowhere.
        BackendError: the process failed; the message is PyTorch's.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [torch_interpreter(), "-m", "segnext.benchmark.torch_twin"],
            env=package_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.peak_bytes = 0
        self.result: Any = None

    def prepare(self, **workload: Any) -> dict[str, Any]:
        """Builds the workload (see ``torch_twin.Worker.prepare``); returns PyTorch's version and threads."""
        self.peak_bytes = 0
        return self._ask("prepare", workload)

    def run(self) -> float:
        """Seconds of one call of the prepared workload."""
        answer = self._ask("run", {})
        self.peak_bytes, self.result = int(answer["peak_bytes"]), answer["result"]
        return float(answer["seconds"])

    def _ask(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({command: arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise BackendError(f"PyTorch's process ended with code {self._process.wait()}: its message is above")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise BackendError(f"PyTorch: {answer['error']}")
        return answer

    def __enter__(self) -> TorchTwin:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def torch_interpreter() -> str:
    """The Python that runs the PyTorch twin: ``SEGNEXT_TORCH_PYTHON``, else our own if it has PyTorch.

    Raises:
        ConfigError: there is none.
    """
    if path := os.environ.get("SEGNEXT_TORCH_PYTHON"):
        if not Path(path).exists():
            raise ConfigError(f"SEGNEXT_TORCH_PYTHON={path} does not exist: name a Python interpreter with PyTorch")
        return path
    if importlib.util.find_spec("torch") is None:
        raise ConfigError(
            "PyTorch is not installed: pip install 'segnext-jittor[parity]', or let SEGNEXT_TORCH_PYTHON name the "
            "interpreter of another environment that has it"
        )
    return sys.executable
