"""Settings that follow from a run's folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from segnext.app.earlier_settings import with_settings_of_run
from segnext.app.schema import TrainConfig
from segnext.errors import ConfigError
from segnext.tracking.run_folder import RunFolder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = RunFolder.adopt(tmp_path / "run")
    folder.write_status("interrupted")
    folder.write_config(
        "model: {name: small}\n"
        "dataset: {name: folder, root: '/data/a = b', label_map: {255: 1}, crop: [64, 32]}\n"
        "schedule: {iterations: 6, lr: 0.1}\n"
        "seed: 3\nrun_folder: elsewhere\n"
    )
    return folder.path


def test_resume_alone_brings_the_settings_of_the_run(run: Path) -> None:
    assert sorted(with_settings_of_run([f"resume={run}"], TrainConfig)) == sorted(
        [
            "model=small",
            "dataset=folder",
            "dataset.crop=[64,32]",
            "dataset.label_map={255: 1}",
            'dataset.root="/data/a = b"',
            "schedule.iterations=6",
            "schedule.lr=0.1",
            "seed=3",
            f"resume={run}",
        ]
    )


def test_what_is_given_wins_and_another_choice_of_a_group_leaves_none_of_it(run: Path) -> None:
    complete = with_settings_of_run([f"resume={run}", "seed=4", "schedule=40k"], TrainConfig)
    assert "seed=3" not in complete
    assert not [text for text in complete if text.startswith("schedule.")]
    assert "dataset.crop=[64,32]" in complete


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no run folder"):
        with_settings_of_run([f"resume={tmp_path}"], TrainConfig)


def test_auto_and_no_resume_leave_the_command_as_it_is() -> None:
    for overrides in (["resume=auto"], ["seed=1"]):
        assert with_settings_of_run(overrides, TrainConfig) == overrides
