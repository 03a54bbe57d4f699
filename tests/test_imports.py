"""Importing is harmless: only a start of the backend touches Jittor, descriptors, signals and the environment."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import runners
import segnext

MODULES = sorted(
    module.name
    for package in (segnext, runners)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if not module.name.startswith("segnext.benchmark.torch_")
    or module.name == "segnext.benchmark.torch_process"  # the others run in an interpreter that has PyTorch
)
LOOK = """
import importlib, json, os, signal, sys
import cv2  # writes LD_LIBRARY_PATH by itself

def state():
    handlers = {int(number): repr(signal.getsignal(number)) for number in signal.valid_signals()}
    descriptors = {name: os.readlink(f"/proc/self/fd/{name}") for name in ("0", "1", "2")}
    streams = [id(sys.stdout), id(sys.stderr), id(sys.excepthook)]
    return {"handlers": handlers, "descriptors": descriptors, "streams": streams, "environment": dict(os.environ)}

before = state()
for name in sys.argv[1:]:
    importlib.import_module(name)
changed = [key for key, value in state().items() if value != before[key]]
print(json.dumps({"changed": changed, "jittor": "jittor" in sys.modules}))
"""


def look(*modules: str) -> dict[str, object]:
    """What importing ``modules`` in a fresh process has changed there."""
    root = Path(segnext.__file__).parents[1]
    command = [sys.executable, "-c", LOOK, *modules]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_importing_every_module_leaves_the_process_as_it_was() -> None:
    assert len(MODULES) > 100
    assert look(*MODULES) == {"changed": [], "jittor": False}


def test_the_look_notices_what_a_module_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rude.py").write_text(
        "import os, signal\nos.environ['RUDE'] = '1'\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert look("rude")["changed"] == ["handlers", "environment"]
