"""What a sweep reads from its command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from segnext.backend.world import World
from segnext.errors import ConfigError
from segnext.settings import literal
from segnext.sweeps import sweep
from segnext.sweeps.sweep import read_sweep


def master(*task: str, hydra: tuple[str, ...] = (), added: str | None = None) -> DictConfig:
    """The configuration that the jobs of ``train -m TASK`` share, as far as a sweep reads it."""
    sources = [{"provider": "main", "path": "conf"}]
    sources += [{"provider": "command-line", "path": added}] if added else []
    config: dict[str, Any] = {
        "output_dir": "outputs",
        "sweep": {"slots": 2},
        "hydra": {
            "job": {"config_name": "train"},
            "overrides": {"task": list(task), "hydra": [*hydra, "hydra.mode=MULTIRUN"]},
            "runtime": {"config_sources": sources},
            "sweeper": {"params": {"dataset": "ade,camvid"}},
        },
    }
    return OmegaConf.create(config)


SETTINGS = {"group": None}


def test_the_keys_among_whose_values_a_sweep_goes_name_its_jobs() -> None:
    read = read_sweep("train", master("model=tiny,small", "seed=3"))
    assert read.swept == {"model", "dataset"}
    assert read.job(["dataset=ade", "model=small", "seed=3"], SETTINGS).name.startswith("ade_small-")


def test_a_job_is_told_its_folder_its_group_and_where_its_configuration_comes_from() -> None:
    given = master("model=tiny,small", hydra=("hydra.searchpath=[file:///more]",), added="/my conf")
    read = read_sweep("train", given)
    job = read.job(["dataset=ade", "model=small", "sweep.slots=2"], SETTINGS)
    command = read.command(job)
    assert command[1:3] == [str(Path("runners").absolute()), "train"]
    assert command[3:] == [
        "--config-dir",
        "/my conf",
        "hydra.searchpath=[file:///more]",
        "dataset=ade",
        "model=small",
        f"tracking.group={literal(read.folder.name)}",
        f"output_dir={literal(str(Path('outputs').absolute()))}",
        f"run_folder={literal(str(job.folder))}",
        "hydra.mode=RUN",
    ]


def test_a_group_of_the_users_own_stays() -> None:
    read = read_sweep("train", master("model=tiny,small"))
    job = read.job(["model=small", "tracking.group=mine"], {"group": "mine"})
    assert job.overrides == ("model=small", "tracking.group=mine")


def test_the_same_command_means_the_same_sweep_wherever_its_jobs_run() -> None:
    here = read_sweep("train", master("model=tiny,small", "device=cpu", "workers=2"))
    there = read_sweep("train", master("model=tiny,small", hydra=("hydra/launcher=submitit_slurm",)))
    assert here.folder == there.folder


def test_a_sweep_under_mpirun_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "current_world", lambda: World(0, 2))
    with pytest.raises(ConfigError, match="leave mpirun out"):
        read_sweep("train", master("model=tiny,small"))
