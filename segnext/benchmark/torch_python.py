"""Where PyTorch is: it never runs in a process with Jittor, and need not be installed beside it."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from segnext.errors import ConfigError

__all__ = ["package_environment", "torch_interpreter"]


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


def package_environment() -> dict[str, str]:
    """Environment variables for it: this package can be imported, whatever the folder."""
    root = Path(__file__).resolve().parents[2]
    paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
