"""The training command in processes of its own, as a user starts it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from segnext.tracking.run_folder import RunFolder

REPOSITORY = Path(__file__).parents[2]
QUICK = (
    "model=tiny",
    "dataset=shapes",
    "schedule=demo",
    "dataset.image_size=[32,32]",
    "dataset.crop=[32,32]",
    "dataset.test.scale=[32,32]",
    "dataset.train_images=8",
    "dataset.val_images=2",
    "schedule.batch_size=2",
    "schedule.iterations=6",
    "schedule.eval_interval=3",
    "schedule.log_interval=1",
    "workers=0",
)


def command(*overrides: str) -> list[str]:
    return [sys.executable, "-m", "runners.train", *overrides]


def train(*overrides: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*overrides), cwd=REPOSITORY, capture_output=True, text=True, check=False)


def events(run: Path, kind: str) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    return [record for record in records if record["kind"] == kind]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def finished(outputs: Path) -> tuple[Path, str]:
    """A short run and what it said."""
    done = train(*QUICK, f"output_dir={outputs}", "name=straight", "tracking=wandb", "tracking.wandb=offline")
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = (outputs / "straight").iterdir()
    return run, done.stdout


def test_a_run_leaves_its_folder_complete(finished: tuple[Path, str]) -> None:
    run, _ = finished
    for name in ("config.yaml", "events.jsonl", "metrics.json", "status.json", "train.log", "curves.png"):
        assert (run / name).stat().st_size > 0
    for name in ("latest.safetensors", "best.safetensors", "latest.resume.safetensors"):
        assert (run / "checkpoints" / name).stat().st_size > 0
    for name in ("per_image.npz", "confusion.csv", "extremes/extremes.json"):
        assert (run / "evaluation" / name).stat().st_size > 0
    assert json.loads((run / "status.json").read_text())["state"] == "finished"


def test_metrics_agree_with_the_event_log(finished: tuple[Path, str]) -> None:
    run, _ = finished
    metrics = json.loads((run / "metrics.json").read_text())
    validations = {record["iteration"]: record["metrics"]["val/mIoU"] for record in events(run, "val")}
    assert set(validations) == {3, 6}
    assert metrics["mIoU"] == validations[6]
    assert metrics["best_mIoU"] == max(validations.values())
    assert metrics["params"] == 4_226_406
    assert metrics["iteration"] == 6


def test_every_iteration_logs_loss_rate_norm_speed_and_memory(finished: tuple[Path, str]) -> None:
    run, _ = finished
    records = events(run, "train")
    assert [record["iteration"] for record in records] == [1, 2, 3, 4, 5, 6]
    assert "train/images_per_second" not in records[0]["metrics"]  # the first step may have compiled
    assert set(records[1]["metrics"]) == {
        "train/loss", "train/lr", "train/grad_norm", "train/images_per_second", "train/device_memory_gib",
        "train/device_memory_peak_gib",
    }  # fmt: skip


def test_the_screen_says_where_everything_is(finished: tuple[Path, str]) -> None:
    run, screen = finished
    assert f"run folder  {run}" in screen
    assert str(run / "curves.png") in screen
    assert "Compiling Operators" not in screen


def test_a_checkpoint_describes_itself_and_predicts(finished: tuple[Path, str]) -> None:
    run, _ = finished
    code = (
        "import numpy as np, segnext, sys\n"
        "segmenter = segnext.Segmenter.from_checkpoint(sys.argv[1])\n"
        "print(segmenter.predict(np.zeros((32, 40, 3), np.uint8)).shape, len(segmenter.classes))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run)], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stdout.strip() == "(32, 40) 6", done.stderr


def test_a_run_started_in_the_folder_of_a_finished_one_does_nothing(finished: tuple[Path, str]) -> None:
    run, _ = finished
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    done = train(*QUICK, f"run_folder={run}", "tracking=none")
    assert (done.returncode, done.stdout.strip()) == (0, f"Nothing to do: the run in {run} has finished")
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_a_finished_run_is_not_taken_for_one_with_other_settings(finished: tuple[Path, str]) -> None:
    run, _ = finished
    done = train(*QUICK, "seed=7", f"run_folder={run}", "tracking=none")
    assert done.returncode == 2
    assert "holds a finished run with other settings (seed: 0 → 7)" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.fixture
def interrupted(finished: tuple[Path, str], tmp_path: Path) -> RunFolder:
    """An interrupted run with the settings of the finished one, whose checkpoint can't be read."""
    run = RunFolder.adopt(tmp_path / "interrupted")
    run.write_config((finished[0] / "config.yaml").read_text())
    run.write_status("interrupted")
    (run.checkpoints / "latest.resume.safetensors").touch()
    return run


def test_a_run_does_not_go_on_with_another_model_or_dataset(interrupted: RunFolder) -> None:
    recorded = interrupted.config.read_text()
    done = train(*QUICK, "model=small", f"resume={interrupted.path}", "tracking=none")
    assert done.returncode == 2
    assert "can't go on with other settings of model.name: tiny → small" in done.stderr
    assert interrupted.config.read_text() == recorded


def test_a_run_that_goes_on_with_other_settings_says_so(interrupted: RunFolder) -> None:
    recorded = interrupted.config.read_text()
    done = train(*QUICK, "seed=7", f"run_folder={interrupted.path}", "tracking=none")
    assert "with other settings than before: seed: 0 → 7" in done.stdout
    assert done.returncode == 2  # its state is damaged, and nothing was written
    assert interrupted.config.read_text() == recorded


def test_a_finished_run_goes_on_from_its_folder_alone_to_more_iterations(
    finished: tuple[Path, str], tmp_path: Path
) -> None:
    run = tmp_path / "copy"
    shutil.copytree(finished[0], run)
    done = train(f"resume={run}", "schedule.iterations=7", "tracking=none")
    assert done.returncode == 0, done.stderr
    assert "with other settings than before: schedule.iterations: 6 → 7" in done.stdout
    assert events(run, "train")[-1]["iteration"] == 7
    assert events(run, "start")[-1]["changed"] == {"schedule.iterations": [6, 7]}


def test_any_file_name_is_trained_on_evaluated_and_recorded_without_utf_8(tmp_path: Path) -> None:
    names = ("caf\udce9", "f\u00e9e", "[red]x", "line\nfeed", "\u5199\u771f" * 40)
    for folder in ("images", "annotations"):
        for split in ("train", "val"):
            (tmp_path / "data" / folder / split).mkdir(parents=True)
            for k, name in enumerate(names):
                label = np.array([[k % 2, 1 - k % 2]] * 32, np.uint8).repeat(16, axis=1)
                Image.fromarray(label).save(tmp_path / "data" / folder / split / f"{split}{name}.png")
    (tmp_path / "data/classes.yaml").write_text("names: ['[bold]ground', ':leaf:']\n")
    settings = [
        text for text in QUICK if not text.startswith(("dataset=", "dataset.image_size", "dataset.t", "dataset.v"))
    ]
    own = ("dataset=folder", f"dataset.root={tmp_path}/data", "model.pretrained=null", f"run_folder={tmp_path}/run")
    done = subprocess.run(
        command(*settings, *own, "dataset.test.scale=[32,32]", "schedule.iterations=3", "tracking=none"),
        cwd=REPOSITORY, capture_output=True, text=True, check=False, env=os.environ | {"LC_ALL": "C"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (record,) = events(tmp_path / "run", "images")
    assert [image["name"] for image in record["images"]][:2] == ["val[red]x", r"valcaf\udce9"]


def test_a_second_process_in_one_run_folder_is_refused(tmp_path: Path) -> None:
    folder = RunFolder.adopt(tmp_path / "run")
    folder.write_status("running")
    held = folder.lock()
    assert held is not None
    done = train(*QUICK, f"run_folder={folder.path}", "tracking=none")
    held.release()
    assert done.returncode == 2
    assert f"error: {folder.path} is in use by another run" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not folder.config.exists()


@pytest.fixture
def process(outputs: Path) -> Iterator[subprocess.Popen[str]]:
    arguments = command(*QUICK, f"output_dir={outputs}", "name=stopped", "tracking=none")
    with subprocess.Popen(arguments, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as started:
        yield started
        started.kill()


def test_a_checkpoint_of_other_classes_is_refused_before_any_work(finished: tuple[Path, str], tmp_path: Path) -> None:
    root = camvid(tmp_path / "camvid")
    done = train("dataset=camvid", f"dataset.root={root}", f"checkpoint={finished[0]}", f"output_dir={tmp_path}/out")
    assert done.returncode == 2
    assert "model.reset_classifier=true" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_run_stopped_by_sigterm_resumes_to_the_very_same_weights(
    finished: tuple[Path, str], outputs: Path, process: subprocess.Popen[str]
) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.lstrip().startswith("2/6"):
            process.send_signal(signal.SIGTERM)
            break
    process.stdout.read()
    assert process.wait() == 128 + signal.SIGTERM
    (run,) = (outputs / "stopped").iterdir()
    status = json.loads((run / "status.json").read_text())
    assert (status["state"], status["exit_reason"]) == ("interrupted", "SIGTERM")

    resumed = train(*QUICK, f"output_dir={outputs}", "name=stopped", "tracking=none", "resume=auto")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert f"Resuming {run}" in resumed.stdout
    straight, stopped = (load_file(r / "checkpoints/latest.safetensors") for r in (finished[0], run))
    assert all((straight[name] == stopped[name]).all() for name in straight)
    assert [record["iteration"] for record in events(run, "val")] == [3, 6]


def camvid(root: Path, *, label: int = 3, broken_image: bool = False, without_label: bool = False) -> Path:
    for split in ("train", "val"):
        for folder in ("images", "annotations"):
            (root / folder / split).mkdir(parents=True)
        image = Image.fromarray(np.zeros((40, 48, 3), np.uint8))
        image.save(root / "images" / split / "one.jpg")
        labels = np.full((40, 48), label, np.uint8)
        labels[:, 24:] = 0  # a second class: one alone is refused
        Image.fromarray(labels).save(root / "annotations" / split / "one.png")
    if broken_image:
        (root / "images/val/one.jpg").write_bytes(b"no image")
    if without_label:
        (root / "annotations/val/one.png").unlink()
    return root


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=tinny"], "model=tinny does not exist: did you mean tiny?"),
        (["dataset.crop=64"], "dataset.crop is a list: write dataset.crop=[…,…]"),
        (["datset=ade"], "unknown setting datset: did you mean dataset?"),
        (["+model.drop_pth=1"], "unknown setting model.drop_pth: did you mean model.drop_path?"),
        (["schedule.lr=fast"], "schedule.lr: Value 'fast'"),
        (["schedule.batch_size=0"], "schedule.batch_size=0 is out of range"),
        (["dataset=ade", "dataset.root=/nowhere"], "dataset.root"),
        (["dataset=shapes", "checkpoint=/nowhere/a.pth"], "/nowhere/a.pth does not exist"),
        (["dataset=shapes", "model.pretrained=/nowhere/b.pth"], "/nowhere/b.pth"),
        (["dataset=shapes", "device=cuda"], "device=cpu trains on the processor"),
    ],
)
def test_a_wrong_command_ends_with_2_and_one_line(overrides: list[str], message: str, tmp_path: Path) -> None:
    if "device=cuda" in overrides and not _without_gpu():
        pytest.skip("there is a GPU here")
    done = train(*overrides, f"output_dir={tmp_path}")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"label": 11}, "one.png holds the value 11"),
        ({"broken_image": True}, "one.jpg"),
        ({"without_label": True}, "one"),
    ],
)
def test_broken_data_are_named_before_any_work(fault: dict[str, Any], message: str, tmp_path: Path) -> None:
    root = camvid(tmp_path / "camvid", **fault)
    done = train("dataset=camvid", f"dataset.root={root}", "model.pretrained=null", f"output_dir={tmp_path / 'out'}")
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_published_backbone_that_cannot_be_fetched_ends_the_run_before_any_work(tmp_path: Path) -> None:
    environment = {**os.environ, "SEGNEXT_HOME": str(tmp_path / "home"), "https_proxy": "http://127.0.0.1:9"}
    arguments = command("dataset=shapes", "model.pretrained=auto", f"output_dir={tmp_path / 'out'}")
    done = subprocess.run(arguments, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "mscan_t" in done.stderr
    assert str(tmp_path / "home/weights") in done.stderr
    assert "model.pretrained=null" in done.stderr
    assert not (tmp_path / "out").exists()


def test_an_unforeseen_error_is_one_line_with_the_traceback_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import segnext.data.shapes as s\ndef read(self, index): raise RuntimeError('the disk is on fire')\n"
        "s.ShapesDataset.read = read\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{REPOSITORY}", "SEGNEXT_HOME": str(tmp_path / "home")}
    arguments = command("dataset=shapes", f"output_dir={tmp_path / 'out'}")
    done = subprocess.run(arguments, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: LoaderWorkerError: RuntimeError: the disk is on fire (traceback in ")
    assert "Traceback" in (tmp_path / "home/traceback.log").read_text()


def _without_gpu() -> bool:
    from segnext import backend

    return bool(backend.cuda_problem())
