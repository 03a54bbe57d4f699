"""W&B offline, read back with W&B's own reader; and what happens when the server stops answering."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wandb

from segnext.tracking.images import ValidationImage
from segnext.tracking.run_folder import RunFolder
from segnext.tracking.tracker import Tracker
from segnext.tracking.wandb_sink import WandbSink, replay, wandb_is_disabled
from tests.tracking.wandb_server import WandbServer

HERE = Path(__file__).parent

NAMES = ("sky", "bed ")
PALETTE = np.array([[70, 130, 180], [128, 64, 128]], np.uint8)


@pytest.fixture(autouse=True)
def no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home without any W&B setting."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in [name for name in os.environ if name.startswith("WANDB_") and name != "WANDB_SERVICE"]:
        monkeypatch.delenv(name)
    for name in ("DATA_DIR", "CACHE_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", str(tmp_path / "wandb-files"))
    return home


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "outputs", "tiny_shapes")


def tracker(folder: RunFolder, *, first_iteration: int = 0, **settings: Any) -> Tracker:
    sink = WandbSink(
        folder,
        **{"project": "segnext", "config": {"model": {"name": "tiny"}}, "class_names": NAMES, **settings},
    )
    return Tracker(folder, class_names=NAMES, palette=PALETTE, sinks=[sink], first_iteration=first_iteration)


def sample() -> ValidationImage:
    truth = np.zeros((6, 8), np.uint8)
    truth[0] = 255
    return ValidationImage("town/a", np.full((6, 8, 3), 90, np.uint8), truth, np.ones((6, 8), np.int64))


def pieces(folder: RunFolder) -> list[Path]:
    return sorted((folder.path / "wandb").glob("offline-run-*"))


def inspect(piece: Path, *options: str) -> str:
    program = Path(sys.executable).with_name("wandb")
    command = [str(program), "leet", "inspect", *options, "--json", str(piece)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def summary(piece: Path) -> dict[str, Any]:
    return dict(json.loads(inspect(piece, "--summary")))


def history(piece: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in inspect(piece).splitlines()]
    return [record["history"]["item"] for record in records if record["type"] == "history"]


def test_an_offline_run_read_back_shows_the_figures_of_metrics_json(folder: RunFolder) -> None:
    with tracker(folder, group="paper", tags=["tiny", "shapes"], notes="first", git_revision="c0ffee") as track:
        track.summary({"params": 4_233_142, "macs": 6_300_000_000})
        track.log(100, {"train/loss": 1.25, "train/lr": 6e-5})
        track.log(100, {"val/mIoU": 0.61, "val/mAcc": 0.7, "val/aAcc": 0.8, "val/IoU/sky": 0.61, "val/IoU/bed": np.nan})
        track.images(100, [sample()])
        track.log(200, {"val/mIoU": 0.5, "val/mAcc": 0.6, "val/aAcc": 0.7})
    (piece,) = pieces(folder)
    run = summary(piece)
    figures = folder.read_metrics()
    assert figures["best_mIoU"] == 0.61
    assert {key: run["summary"][key] for key in figures} == figures
    assert run["summary"]["flops"] == 6_300_000_000
    assert run["summary"]["val/mIoU"] == {"max": 0.61}
    assert "val/IoU/bed" not in run["summary"]
    assert run["config"] == {"model": {"name": "tiny"}, "git_revision": "c0ffee"}
    assert (run["tags"], run["notes"], run["state"]) == (["tiny", "shapes"], "first", "finished")


def test_the_best_checkpoint_is_an_artifact_that_refers_to_its_file_if_asked_for(folder: RunFolder) -> None:
    best = folder.checkpoints / "best.safetensors"
    with tracker(folder, artifact=True) as track:
        best.write_bytes(b"weights")
        track.log(100, {"val/mIoU": 0.61})
    (piece,) = pieces(folder)
    records = [json.loads(line) for line in inspect(piece).splitlines()]
    (record,) = [record["artifact"] for record in records if record["type"] == "artifact"]
    assert (record["type"], sorted(record["aliases"])) == ("model", ["best", "latest"])
    (content,) = record["manifest"]["contents"]
    assert (content["path"], content["ref"]) == ("best.safetensors", best.as_uri())


def test_the_x_axis_of_every_curve_is_the_iteration(folder: RunFolder) -> None:
    with tracker(folder) as track:
        for i in (10, 20, 30):
            track.log(i, {"train/loss": 1 / i})
    (piece,) = pieces(folder)
    assert [(row["iteration"], row["train/loss"]) for row in history(piece)] == [(10, 0.1), (20, 0.05), (30, 1 / 30)]
    metrics = [json.loads(line).get("metric", {}) for line in inspect(piece).splitlines()]
    axes = {m.get("glob_name") or m.get("name"): m.get("step_metric") for m in metrics if m}
    assert axes == {"iteration": None, "train/*": "iteration", "val/*": "iteration", "val/mIoU": "iteration"}


def test_validation_images_carry_both_masks_with_class_names(folder: RunFolder) -> None:
    with tracker(folder) as track:
        track.images(5, [sample()])
    (piece,) = pieces(folder)
    (row,) = history(piece)
    assert set(row["val/images.all_masks"][0]) == {"ground_truth", "predictions"}
    assert len(list((piece / "files" / "media").rglob("*.mask.png"))) == 2
    assert '"sky"' in inspect(piece)


def test_nothing_is_written_outside_the_run_folder(
    folder: RunFolder, no_account: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    program = (
        "import sys, numpy as np\n"
        "from segnext.tracking.run_folder import RunFolder\n"
        "from segnext.tracking.tracker import Tracker\n"
        "from segnext.tracking.wandb_sink import WandbSink\n"
        "folder = RunFolder.open(sys.argv[1])\n"
        "sink = WandbSink(folder, project='p', config={}, class_names=['a'])\n"
        "with Tracker(folder, class_names=['a'], palette=np.zeros((1, 3), np.uint8), sinks=[sink]) as track:\n"
        "    track.log(1, {'train/loss': 1.0})\n"
    )
    folder.write_status("running")
    for name in ("DATA_DIR", "CACHE_DIR"):
        monkeypatch.delenv(f"WANDB_{name}")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    command = [sys.executable, "-c", program, str(folder.path)]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=True, timeout=120)
    assert "wandb" not in done.stdout + done.stderr
    assert list(here.iterdir()) == []
    assert list(no_account.rglob("*wandb*")) == []
    assert len(pieces(folder)) == 1


def test_a_resumed_offline_run_is_one_piece_with_the_whole_curve_under_the_same_id(folder: RunFolder) -> None:
    with tracker(folder) as track:
        track.summary({"params": 3})
        for i in (10, 20, 30):
            track.log(i, {"train/loss": float(i)})
        track.images(20, [sample()])
    before = summary(pieces(folder)[0])["run_id"]
    time.sleep(max(0.0, 1.01 - time.time() % 1))  # W&B names folders by the second
    with tracker(RunFolder.open(folder.path), first_iteration=20) as track:
        track.log(30, {"train/loss": 33.0})
    (piece,) = pieces(folder)
    assert summary(piece)["run_id"] == before
    rows = history(piece)
    assert [(r["iteration"], r["train/loss"]) for r in rows if "train/loss" in r] == [(10, 10), (20, 20), (30, 33)]
    assert [r["iteration"] for r in rows if "val/images.count" in r] == [20]
    assert summary(piece)["summary"]["params"] == 3
    assert len(list((folder.path / "wandb" / "superseded").glob("offline-run-*"))) == 1


def test_a_run_made_without_wandb_can_be_replayed(folder: RunFolder) -> None:
    with Tracker(folder, class_names=NAMES, palette=PALETTE) as track:
        track.log(10, {"train/loss": 2.0})
        track.log(10, {"val/mIoU": 0.5})
    piece = replay(folder, project="segnext", config={})
    assert [row["iteration"] for row in history(piece)] == [10, 10]
    assert summary(piece)["summary"]["best_mIoU"] == 0.5


def test_two_runs_in_one_process_stay_apart(tmp_path: Path) -> None:
    folders = [RunFolder.create(tmp_path, "x") for _ in range(2)]
    with tracker(folders[0]) as first, tracker(folders[1]) as second:
        first.log(1, {"train/loss": 1.0})
        second.log(1, {"train/loss": 2.0})
    assert [history(pieces(folder)[0])[0]["train/loss"] for folder in folders] == [1.0, 2.0]


def test_an_agent_of_a_sweep_decides_the_id(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SWEEP_ID", "s1")
    monkeypatch.setenv("WANDB_RUN_ID", "given")
    with tracker(folder, mode="offline"):
        pass
    assert json.loads((folder.path / "wandb.json").read_text())["id"] == "given"


@dataclass
class Outcome:
    logged: float
    finished: float
    ended: float
    said: str


def tracked_run(folder: RunFolder, url: str, *, first: int, last: int) -> Outcome:
    """Runs ``tracked_run.py`` with an account at ``url``; times are seconds since its start."""
    settings = {"WANDB_BASE_URL": url, "WANDB_API_KEY": "0" * 40, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, str(HERE / "tracked_run.py"), str(folder.path), str(first), str(last)]
    # Without the address of this process' W&B service, so that the child starts its own.
    environment = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"} | settings
    begin = time.monotonic()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    logged, finished = map(float, done.stdout.split())
    return Outcome(logged, finished, time.monotonic() - begin, done.stderr)


def iterations(rows: dict[int, dict[str, Any]]) -> list[int]:
    return [rows[number]["iteration"] for number in sorted(rows)]


def test_a_resumed_online_run_has_one_value_per_iteration(folder: RunFolder) -> None:
    with WandbServer() as server:
        tracked_run(folder, server.url, first=0, last=5)
        tracked_run(folder, server.url, first=3, last=8)
        (rows,) = server.history.values()
    assert iterations(rows) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_what_the_server_had_missed_is_sent_when_the_run_is_resumed(folder: RunFolder) -> None:
    with WandbServer() as server:
        tracked_run(folder, server.url, first=0, last=5)
        (rows,) = server.history.values()
        del rows[3], rows[4]
        tracked_run(folder, server.url, first=5, last=6)
    assert iterations(rows) == [1, 2, 3, 4, 5, 6]


def test_a_run_that_began_offline_is_complete_online(folder: RunFolder) -> None:
    with tracker(folder) as track:
        track.log(1, {"train/loss": 1.0})
    with WandbServer() as server:
        tracked_run(folder, server.url, first=1, last=3)
        (rows,) = server.history.values()
    assert iterations(rows) == [1, 2, 3]
    assert pieces(folder) == []


def test_a_server_that_stops_answering_neither_slows_the_run_nor_hangs_its_end(folder: RunFolder) -> None:
    with WandbServer(silent_after_init=True) as server:
        outcome = tracked_run(folder, server.url, first=0, last=2000)
        assert server.silent
    assert outcome.logged < 1.5
    assert outcome.finished < 15
    assert outcome.ended < 25
    assert "the upload is not complete" in outcome.said
    (piece,) = (folder.path / "wandb").glob("run-*")
    assert len(history(piece)) == 2000


def test_with_a_server_that_never_answers_the_run_is_kept_offline(folder: RunFolder) -> None:
    with WandbServer() as server:
        server.silent = True
        outcome = tracked_run(folder, server.url, first=0, last=500)
    assert outcome.logged < 1.5
    assert outcome.finished < 20
    assert outcome.ended < 30
    assert "the run is kept offline" in outcome.said
    assert "switched off" not in outcome.said
    (piece,) = pieces(folder)
    assert len(history(piece)) == 500


VARIABLES = {
    "PROJECT": "theirs",
    "NAME": "named",
    "RUN_GROUP": "grouped",
    "NOTES": "noted",
    "TAGS": "a,b",
    "RUN_ID": "i7",
}


def opened(folder: RunFolder, **settings: Any) -> Any:
    """The W&B run of ``folder``, offline."""
    sink = WandbSink(folder, config={}, class_names=NAMES, labels=["tiny"], **settings)
    sink.start([])
    sink.finish("finished")
    return sink._run


def test_wandbs_variables_win_over_defaults(folder: RunFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    run = opened(folder)
    assert (run.project, run.name, run.group, run.notes, run.id) == ("theirs", "named", "grouped", "noted", "i7")
    assert sorted(run.tags) == ["a", "b", "tiny"]
    assert Path(run.settings.sync_dir).is_relative_to(tmp_path / "wandb")


def test_settings_win_over_wandbs_variables(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    run = opened(folder, project="ours", group="g", notes="n", tags=["c"])
    assert (run.project, run.group, run.notes) == ("ours", "g", "n")
    assert sorted(run.tags) == ["c", "tiny"]


def test_the_jobs_of_a_sweep_do_not_share_an_id_or_a_name(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", "i7")
    monkeypatch.setenv("WANDB_NAME", "named")
    monkeypatch.setenv("SEGNEXT_RUN_LOCKED", str(folder.path))
    run = opened(folder)
    assert run.id != "i7"
    assert run.name == folder.name


@pytest.mark.parametrize(
    ("variable", "value"),
    [("API_KEY", "too-short"), ("PROJECT", "a/b#c"), ("BASE_URL", "nonsense"), ("RUN_ID", "a/b"), ("TAGS", "x" * 100)],
)
def test_what_wandb_refuses_leaves_the_run_offline_and_says_so(
    variable: str, value: str, folder: RunFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wandb.teardown()  # it remembers the variables that it has read
    monkeypatch.setenv(f"WANDB_{variable}", value)
    with tracker(folder, project=None) as track:
        track.log(1, {"train/loss": 1.0})
    assert len(pieces(folder)) == 1
    assert "the run is kept offline" in caplog.text


def test_wandbs_switch_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not wandb_is_disabled()
    monkeypatch.setenv("WANDB_DISABLED", "true")
    assert wandb_is_disabled()
