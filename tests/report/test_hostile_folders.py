"""A run folder in any state of decay is read, resumed and reported without a traceback."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segnext.errors import SegNeXtError
from segnext.report.collect import collect
from segnext.report.page import to_html
from segnext.report.tables import COLUMNS, cost_points, groups, missing, paper_points, to_csv
from segnext.tracking.events import read_events
from segnext.tracking.images import sample_pictures
from segnext.tracking.run_folder import RunFolder
from segnext.tracking.tracker import Tracker
from tests.mutations import limits, mutated
from tests.report.sweep import NAMES, PALETTE, make_run

DEEP = "[" * 100_000
BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
FILES = ("status.json", "metrics.json", "events.jsonl", "config.yaml", "classes.json", "wandb.json")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs; the second one is what the tests damage."""
    root = tmp_path_factory.mktemp("whole")
    make_run(root, "a")
    make_run(root, "b", seed=1)
    (root / "b" / "wandb.json").write_text(json.dumps({"id": "x", "url": "https://wandb.example/x"}))
    return root


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "runs"))


def read_all(root: Path) -> None:
    """Everything that a report shows, but for the pictures."""
    runs = collect(root)
    assert len(runs) >= 1
    for run in runs:
        for column in COLUMNS:
            column.text(column.value(run))
        list(sample_pictures(run.folder, run.events, best_iteration=run.best_iteration))
        run.class_iou()
    for group in groups(runs):
        group.spread("miou_ss")
    cost_points(runs)
    paper_points(runs)
    missing(runs)
    to_csv(runs)


def resume(folder: RunFolder) -> None:
    with Tracker(folder, class_names=NAMES, palette=PALETTE, first_iteration=100) as tracker:
        tracker.log(200, {"train/loss": 1.0})


@pytest.mark.parametrize(
    "content", [DEEP, "5", "null", "[1]", '{"state": 3}', '{"mIoU": [], "macs": "x"}', "\ufeff{", ""]
)
@pytest.mark.parametrize("file", FILES)
def test_a_file_that_holds_something_else_is_left_aside(file: str, content: str, root: Path) -> None:
    (root / "b" / file).write_text(content)
    with limits(seconds=15):
        read_all(root)


@pytest.mark.parametrize("file", FILES)
def test_a_run_with_a_damaged_file_goes_on(file: str, root: Path) -> None:
    (root / "b" / file).write_text(DEEP)
    resume(RunFolder.open(root / "b"))
    status = RunFolder.open(root / "b").read_status()
    assert status is not None
    assert status.state == "finished"


@pytest.mark.parametrize("file", FILES)
def test_a_pipe_in_place_of_a_file_is_not_waited_for(file: str, root: Path) -> None:
    (root / "b" / file).unlink()
    os.mkfifo(root / "b" / file)
    with limits():
        read_all(root)


def test_yaml_aliases_are_not_unfolded(root: Path) -> None:
    (root / "b" / "config.yaml").write_text(BOMB)
    with limits():
        read_all(root)


STATUS: dict[str, Any] = {
    "state": "failed", "error": None, "exit_reason": None, "pid": 1, "host": "h", "started": 0.0, "updated": 0.0,
}  # fmt: skip


@pytest.mark.parametrize(
    "damage",
    [{"state": 7}, {"state": "great"}, {"pid": "x"}, {"pid": 1e400}, {"host": []}, {"error": 5}, {"updated": {}}],
)
def test_a_status_that_cannot_be_is_none(damage: dict[str, Any], tmp_path: Path) -> None:
    folder = RunFolder.adopt(tmp_path)
    folder.status.write_text(json.dumps(STATUS))
    assert folder.read_status() is not None
    folder.status.write_text(json.dumps(STATUS | damage))
    assert folder.read_status() is None


@pytest.mark.parametrize("metrics", [{"mIoU": 2.0}, {"best_mIoU": -0.1}, {"macs": "many"}, {"iteration": -5}])
def test_figures_that_cannot_be_are_unknown(metrics: dict[str, Any], tmp_path: Path) -> None:
    folder = RunFolder.adopt(tmp_path)
    folder.write_metrics(metrics | {"mAcc": 0.5})
    assert folder.read_metrics() == {"mAcc": 0.5}


@pytest.mark.parametrize(
    "line",
    [
        '{"iteration": -5, "kind": "train", "metrics": {}, "time": 0}',
        '{"iteration": 99999999999, "kind": "train", "metrics": {}, "time": 0}',
        '{"iteration": 1e999, "kind": "train", "metrics": {}, "time": 0}',
        '{"iteration": 5, "kind": "val", "metrics": {"val/mIoU": 2.0}, "time": 0}',
        '{"iteration": 5, "kind": "images", "metrics": {}, "time": 0, "images": 3}',
        '{"iteration": 5, "kind": "images", "metrics": {}, "time": 0, "images": [{"name": "a", "image": "../../a"}]}',
        '{"iteration": 5, "kind": "summary", "metrics": {}, "time": 0, "figures": []}',
        DEEP,
    ],
)
def test_a_line_that_cannot_be_a_record_is_skipped(line: str, tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text(line + '\n{"iteration": 1, "kind": "train", "metrics": {"train/loss": 1.0}, "time": 0}\n')
    assert [event.iteration for event in read_events(file)] == [1]


def test_a_report_of_damaged_runs_can_be_drawn(root: Path) -> None:
    for number, file in enumerate(FILES):
        (root / "b" / file).write_bytes(mutated((root / "b" / file).read_bytes(), np.random.default_rng(number)))
    assert "</html>" in to_html(collect(root), title="x")


def test_a_run_folder_damaged_anywhere_is_read(root: Path, whole: Path) -> None:
    pictures = [path.relative_to(whole) for path in (whole / "b" / "images").rglob("*.*")]
    files = [*(Path("b") / name for name in FILES), *pictures]
    for seed in range(120):
        rng = np.random.default_rng(seed)
        file = files[seed % len(files)]
        (root / file).write_bytes(mutated((whole / file).read_bytes(), rng))
        with limits():
            try:
                read_all(root)
            finally:
                shutil.copy(whole / file, root / file)


def test_an_unreadable_folder_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "status.json").mkdir()
    with pytest.raises(SegNeXtError, match="no training run"):
        collect(tmp_path)
