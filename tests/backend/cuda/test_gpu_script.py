"""The first session on a GPU, `.ci/gpu.sh`, gone through on the CUDA machine from an empty cache to its summary."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.backend.cuda.machine import Machine
from tests.backend.cuda.machine.machine import REPOSITORY

pytestmark = pytest.mark.long

COMPUTED = "^(machine|cold_start|warm_start|launch|conv|parity|doctor|tests_gpu|losses)"
SMALL = {"PYTHON": sys.executable, "PRECISIONS": "bf16", "ITERATIONS": "2", "CROP": "[64,64]", "BATCH": "2"}


def session(machine: Machine, folder: Path, parts: str, *, computes: bool) -> dict[str, str]:
    """Runs the parts whose names fit; returns what the summary says of each so far."""
    environment = machine.environment(computes=computes) | SMALL | {"PARTS": parts}
    subprocess.run(["bash", REPOSITORY / ".ci/gpu.sh", folder], env=environment, capture_output=True, check=False)
    lines = [line.split() for line in (folder / "summary.txt").read_text().splitlines()]
    return {name: " ".join(said) for name, _, _, *said in lines}


def test_every_part_of_the_first_session_runs_to_its_end(machine: Machine, tmp_path: Path) -> None:
    folder = tmp_path / "first"
    computed = session(machine, folder, COMPUTED, computes=True)
    assert set(computed.values()) == {"ok"}, computed
    # Too much to compute here: all is asked of the machine, and nothing done.
    found = session(machine, folder, "^(step|speed|memory)", computes=False)
    assert {name for name, said in found.items() if said != "ok"} == set(), found
    assert "loss bf16: 2 steps" in (folder / "figures.txt").read_text()
    assert "speed bf16: train Jittor" in (folder / "figures.txt").read_text()
    memory = re.findall(r"([\d.]+) GiB held, ([\d.]+) GiB counted", (folder / "memory.log").read_text())
    assert len(memory) == 2
    assert all(0.9 < float(counted) / float(held) < 1.15 for held, counted in memory), memory
