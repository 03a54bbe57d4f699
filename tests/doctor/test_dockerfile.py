"""The image's steps without Docker: what it copies makes a whole package, and its warm-up runs from there."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from segnext.doctor.warm import warm_cache

REPOSITORY = Path(__file__).parents[2]
SCRIPT = REPOSITORY / ".ci" / "dockerfile.py"

specification = importlib.util.spec_from_file_location("dockerfile", SCRIPT)
assert specification is not None
assert specification.loader is not None
dockerfile = importlib.util.module_from_spec(specification)
specification.loader.exec_module(dockerfile)


def test_a_stage_has_the_steps_of_the_one_that_it_is_built_from() -> None:
    text = "# a comment\nFROM python:3 AS base\nRUN one \\\n    && two\nFROM base AS cpu\nARG MODEL=tiny\n"
    assert dockerfile.stages(text) == {
        "base": [("RUN", "one && two")],
        "cpu": [("RUN", "one && two"), ("ARG", "MODEL=tiny")],
    }


def test_places_of_the_image_lie_below_the_folder_and_arguments_reach_the_commands(tmp_path: Path) -> None:
    steps = [
        ("ENV", "HERE=/opt/cache SIZE=2"),
        ("ARG", "MODEL=tiny"),
        ("WORKDIR", "/opt/app"),
        ("COPY", "README.md conf/train.yaml ./"),
        ("RUN", "apt-get update && ls > files && echo $HERE $SIZE $MODEL > told"),
        ("CMD", '["python"]'),
    ]
    dockerfile.run(steps, tmp_path, {"MODEL": "base"})
    assert (tmp_path / "opt/app/told").read_text().split() == [f"{tmp_path}/opt/cache", "2", "base"]
    assert (tmp_path / "opt/app/files").read_text().split() == ["README.md", "files", "train.yaml"]


def test_a_step_that_fails_ends_it(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        dockerfile.run([("RUN", "false && true")], tmp_path, {})


@pytest.mark.slow
def test_the_image_of_the_processor_is_built_and_a_second_warm_up_compiles_nothing(tmp_path: Path) -> None:
    """With the packages of this environment instead of downloads, and the tests' compile cache (JITTOR_HOME)."""
    venv.create(tmp_path / "venv", with_pip=True, symlinks=True)
    (packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (packages / "these.pth").write_text(sysconfig.get_paths()["purelib"])
    environment = {**os.environ, "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "1", "PYTHONPATH": ""}
    command = [sys.executable, SCRIPT, tmp_path, "cpu", "MODEL=tiny", "CROP=[64,64]"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "compiled ahead for model=tiny, crop 64×64" in done.stdout
    assert (tmp_path / "opt/segnext-cache").is_dir()

    said: list[str] = []
    warm_cache("tiny", (64, 64), device="cpu", announce=said.append)
    assert any("val: mIoU" in line for line in said)
    assert not any(line.startswith("Compiling") for line in said)
