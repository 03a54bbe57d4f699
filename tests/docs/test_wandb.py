from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from segnext.tracking.settings import TrackingSettings

PAGE = (Path(__file__).parents[2] / "docs/wandb.md").read_text(encoding="utf-8")


def test_the_command_that_links_a_sweeps_runs_links_each_of_them_and_nothing_else(tmp_path: Path) -> None:
    jobs = tmp_path / "outputs/sweeps/a b"
    for job, kind in (("model-tiny", "offline-run-1"), ("model-small", "run-2")):
        (jobs / job / "wandb" / kind).mkdir(parents=True)
        (jobs / job / "wandb" / "latest-run").symlink_to(kind)
    command = next(line.strip() for line in PAGE.splitlines() if "ln -sfn" in line)
    for _ in range(2):  # it may be said again when the sweep has grown
        subprocess.run(["bash", "-ec", command.replace("NAME", "'a b'")], cwd=tmp_path, check=True)
    links = {path.name: Path(os.readlink(path)) for path in (jobs / "wandb").iterdir()}
    assert links == {
        "offline-run-1": jobs / "model-tiny/wandb/offline-run-1",
        "run-2": jobs / "model-small/wandb/run-2",
    }


def test_every_setting_that_the_page_names_exists() -> None:
    named = set(re.findall(r"`tracking\.(\w+)", PAGE))
    assert named
    assert named <= set(vars(TrackingSettings()))
