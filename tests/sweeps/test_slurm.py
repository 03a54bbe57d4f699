"""conf/sweep/slurm.yaml as SLURM would see it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from segnext.app.resolution import register
from segnext.sweeps import launcher as launcher_module


@pytest.fixture
def submission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The text of the file that `sbatch` is given for the preset."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    submitit = pytest.importorskip("submitit")
    register("train")
    launcher_module.register("train", lambda composed: {})
    with initialize_config_module("conf", version_base="1.3"):
        overrides = ["+sweep=slurm", "model=tiny"]
        composed = compose("train", overrides, return_hydra_config=True)
    launcher = OmegaConf.to_container(composed.hydra.launcher)
    assert isinstance(launcher, dict)
    common = {"timeout_min", "nodes", "tasks_per_node", "gpus_per_node", "cpus_per_task", "mem_gb"}
    own = {"signal_delay_s", "additional_parameters"}
    (tmp_path / "srun").write_text("#!/bin/sh\n")
    (tmp_path / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    executor = submitit.AutoExecutor(
        cluster="slurm", folder=tmp_path / "jobs", slurm_max_num_timeout=launcher["max_num_timeout"]
    )
    parameters = {key: launcher[key] for key in common} | {f"slurm_{key}": launcher[key] for key in own}
    executor.update_parameters(**parameters)
    text = executor._executor._make_submission_file_text("python -m job", "id")
    return str(text)


def test_a_job_has_one_gpu_and_is_queued_again_after_preemption(submission: str) -> None:
    lines = submission.splitlines()
    for option in ("--gpus-per-node=1", "--requeue", "--time=1440", "--cpus-per-task=8", "--mem=32GB"):
        assert f"#SBATCH {option}" in lines


def test_the_notice_before_the_time_limit_leaves_more_time_than_a_job_needs_to_save(submission: str) -> None:
    [signal] = [line for line in submission.splitlines() if "--signal" in line]
    preset = OmegaConf.load(Path(__file__).parents[2] / "conf" / "sweep" / "slurm.yaml")
    assert signal == f"#SBATCH --signal=USR2@{preset.hydra.launcher.signal_delay_s}"
    assert preset.sweep.grace < preset.hydra.launcher.signal_delay_s
