"""The commands of docs/own-data.md, run as they stand there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from segnext.models.tensor_shapes import tensor_shapes
from segnext.weights.saving import save_weights

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs/own-data.md"
FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A block of commands, the exit code it ends with, and lines that it prints."""

    commands: str
    exit_code: int
    shown: list[str]

    @property
    def starts_jittor(self) -> bool:
        return any(
            name in self.commands for name in ("runners.train", "runners.evaluate", "runners.predict", "segnext")
        )


def blocks() -> Iterator[Block]:
    found: list[Block] = []
    for language, info, text in FENCE.findall(PAGE.read_text(encoding="utf-8")):
        if language == "bash":
            code = re.fullmatch(r" exit=(\d)", info)
            found.append(Block(text, int(code[1]) if code else 0, []))
        else:
            assert language == "text"
            found[-1].shown.extend(text.splitlines())
    return iter(found)


def one_space(text: str) -> str:
    return " ".join(text.split())


def write_published_weights(folder: Path) -> None:
    """What the zoo would download, with other numbers."""
    rng = np.random.default_rng(0)
    arrays = {}
    for name, shape in tensor_shapes("tiny", num_classes=150).items():
        one = name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1)
        arrays[name] = np.ones(shape, np.float32) if one else 0.05 * rng.standard_normal(shape, np.float32)
    save_weights(arrays, folder / "segnext_tiny_512x512_ade_160k.pkl")


class Shell:
    """Runs blocks in one folder in which `python` is ours and the zoo's weights are at hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "work"
        self.folder.mkdir()
        programs = folder / "bin"
        programs.mkdir()
        python = programs / "python"
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        python.chmod(0o755)
        write_published_weights(folder / "home/weights")
        self.environment = {
            **os.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY),
            "SEGNEXT_HOME": str(folder / "home"),
            "WANDB_MODE": "disabled",
            "COLUMNS": "80",
        }

    def run(self, block: Block) -> None:
        done = subprocess.run(
            ["bash", "-e", "-c", block.commands],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == block.exit_code, f"{block.commands}\n{done.stdout}"
        printed = one_space(done.stdout)
        for line in block.shown:
            assert one_space(line) in printed, f"{block.commands}\n{done.stdout}"


def test_the_page_has_blocks_of_both_kinds() -> None:
    assert sum(block.starts_jittor for block in blocks()) >= 5
    assert sum("runners.doctor" in block.commands for block in blocks()) >= 5


@pytest.mark.slow
def test_every_command_of_the_page_works_in_its_order(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    for block in blocks():
        shell.run(block)
    for run in ("garden", "from-ade", "four"):
        assert json.loads((shell.folder / f"outputs/{run}/status.json").read_text())["state"] == "finished"
    scores = json.loads((shell.folder / "outputs/garden/metrics.json").read_text())
    assert scores["best_mIoU"] > 0.6  # the page says about 0.79
    predicted = json.loads((shell.folder / "outputs/predictions/predictions.json").read_text())
    assert set(predicted["images"][0]["shares"]) == {"soil", "leaf", "flower"}
