"""docs/wandb_sweep.yaml: what W&B's agent makes of it is a command line that the runner understands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from wandb.sdk.launch.sweeps import utils as sweeps

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docs" / "wandb_sweep.yaml"


def agent_command(values: dict[str, Any]) -> list[str]:
    """The command of one trial, put together by the agent's own functions."""
    known = sweeps.create_sweep_command_args({"args": {key: {"value": value} for key, value in values.items()}})
    known["env"] = ["/usr/bin/env"]
    command: list[str] = []
    for part in sweeps.create_sweep_command(sweeps.load_sweep_config(str(FILE))["command"]):
        command += known[part[2:-1]] if part.startswith("${") else [part]
    return command


def test_a_trial_of_the_agent_is_a_valid_command() -> None:
    values = {"schedule.lr": 6.1e-05, "schedule.weight_decay": 0.0123, "model.drop_path": 0.21}
    assert set(values) == set(yaml.safe_load(FILE.read_text())["parameters"])
    command = agent_command(values)
    assert command[:4] == ["/usr/bin/env", "python", "-m", "runners.train"]
    done = subprocess.run(
        [sys.executable, *command[2:], "--cfg", "job"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    settings = yaml.safe_load(done.stdout)
    assert (float(settings["schedule"]["lr"]), settings["schedule"]["weight_decay"]) == (6.1e-05, 0.0123)
    assert (settings["model"]["name"], settings["model"]["drop_path"]) == ("tiny", 0.21)
    assert settings["dataset"]["name"] == "camvid"


def test_the_objective_is_a_figure_of_every_run() -> None:
    metric = yaml.safe_load(FILE.read_text())["metric"]
    assert metric == {"name": "best_mIoU", "goal": "maximize"}
