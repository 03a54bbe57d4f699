"""The runners on the CUDA machine, computed: ten steps, a resumed run, evaluation and prediction. Minutes."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from tests.backend.cuda.machine import Machine
from tests.backend.cuda.machine.machine import REPOSITORY

pytestmark = pytest.mark.long

TRAIN = (
    "model=tiny",
    "dataset=shapes",
    "schedule=demo",
    "dataset.image_size=[32,32]",
    "dataset.crop=[32,32]",
    "dataset.test.scale=[32,32]",
    "dataset.train_images=8",
    "dataset.val_images=2",
    "schedule.batch_size=2",
    "schedule.iterations=10",
    "schedule.eval_interval=5",
    "schedule.checkpoint_interval=5",
    "schedule.log_interval=1",
    "tracking=none",
    "workers=0",
)
# The last stage has several pixels: a batch norm over two values makes a rounding a hundred times as large.
FEW = (
    *TRAIN,
    "dataset.image_size=[64,64]",
    "dataset.crop=[64,64]",
    "dataset.test.scale=[64,64]",
    "schedule.iterations=3",
    "schedule.eval_interval=3",
    "schedule.checkpoint_interval=3",
)
RUNNER = """
import runpy
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""
STOPPED = """
import os, pathlib, signal, threading, time
events = pathlib.Path(sys.argv.pop(1)) / "events.jsonl"
def stop():
    while not (events.exists() and '"iteration": 4' in events.read_text()):
        time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=stop, daemon=True).start()
"""
NARROW = {"tf32": 0.02, "bf16": 0.1, "fp16": 0.02}  # share of pixels that may get another label than in float32


@pytest.fixture(scope="module")
def trained(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten steps at one go."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    on_machine(machine, "train", *TRAIN, f"run_folder={folder}", CUDA_MACHINE_SEED="1")
    return folder


def on_machine(machine: Machine, verb: str, *settings: str, **environment: str) -> str:
    done = machine.run(RUNNER, f"runners.{verb}", *settings, "device=cuda", **environment)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def on_cpu(verb: str, *settings: str) -> None:
    command = [sys.executable, "-m", f"runners.{verb}", *settings, "device=cpu"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]


def logged(run: Path) -> list[dict[str, Any]]:
    """What does not depend on time or memory, of each iteration and evaluation."""
    records = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    unsteady = ("seconds", "images_per_second", "memory", "time")
    return [
        {
            "iteration": record["iteration"],
            **{name: value for name, value in record["metrics"].items() if not any(word in name for word in unsteady)},
        }
        for record in records
        if record["kind"] in ("train", "val")
    ]


def assert_same_bits(run: Path, other: Path) -> None:
    for name in ("latest.safetensors", "latest.resume.safetensors"):
        arrays, others = (load_file(folder / "checkpoints" / name) for folder in (run, other))
        assert arrays.keys() == others.keys()
        assert not [key for key, array in arrays.items() if array.tobytes() != others[key].tobytes()]
    assert (run / "evaluation/confusion.csv").read_bytes() == (other / "evaluation/confusion.csv").read_bytes()


def test_ten_steps_have_the_same_bits_whatever_order_the_threads_come_in(
    machine: Machine, trained: Path, tmp_path: Path
) -> None:
    on_machine(machine, "train", *TRAIN, f"run_folder={tmp_path / 'run'}", CUDA_MACHINE_SEED="2")
    assert len(logged(trained)) == 12
    assert logged(tmp_path / "run") == logged(trained)
    assert_same_bits(tmp_path / "run", trained)


def test_a_resumed_run_has_the_bits_of_one_at_one_go(machine: Machine, trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    stopped = machine.run(
        STOPPED + RUNNER, str(run), "runners.train", *TRAIN, f"run_folder={run}", "device=cuda", CUDA_MACHINE_SEED="3"
    )
    assert stopped.returncode == 128 + signal.SIGTERM, stopped.stderr[-4000:]
    assert 4 <= logged(run)[-1]["iteration"] < 10
    on_machine(machine, "train", *TRAIN, f"resume={run}", CUDA_MACHINE_SEED="4")
    assert_same_bits(run, trained)


@pytest.mark.parametrize("settings", [(), ("schedule.micro_batch=1",), ("model.gradient_checkpointing=true",)])
def test_training_logs_what_it_logs_on_the_cpu(machine: Machine, tmp_path: Path, settings: tuple[str, ...]) -> None:
    on_machine(machine, "train", *FEW, *settings, f"run_folder={tmp_path / 'cuda'}")
    on_cpu("train", *FEW, *settings, f"run_folder={tmp_path / 'cpu'}")
    found, expected = logged(tmp_path / "cuda"), logged(tmp_path / "cpu")
    assert len(expected) == 4
    for ours, theirs in zip(found[:3], expected[:3], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


@pytest.mark.parametrize("precision", ["fp32", *NARROW])
def test_evaluation_counts_what_it_counts_on_the_cpu(
    machine: Machine, trained: Path, tmp_path: Path, precision: str
) -> None:
    settings = (f"checkpoint={trained}", "workers=0")
    on_machine(machine, "evaluate", *settings, f"precision={precision}", f"run_folder={tmp_path / 'cuda'}")
    on_cpu("evaluate", *settings, f"run_folder={tmp_path / 'cpu'}")
    found, expected = (confusion(tmp_path / folder / "confusion.csv") for folder in ("cuda", "cpu"))
    assert found.sum() == expected.sum() > 0.9 * 2 * 32 * 32
    assert np.abs(found - expected).sum() / 2 <= NARROW.get(precision, 0) * expected.sum()


def confusion(table: Path) -> Any:
    """Pixels by label and prediction."""
    with table.open(newline="", encoding="utf-8") as file:
        return np.array([row[1:] for row in list(csv.reader(file))[1:]]).astype(int)


@pytest.mark.parametrize("precision", ["fp32", *NARROW])
def test_prediction_labels_as_it_does_on_the_cpu(
    machine: Machine, trained: Path, tmp_path: Path, precision: str
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3)).astype(np.uint8)
    Image.fromarray(pixels).resize((72, 48), Image.Resampling.BILINEAR).save(tmp_path / "photo.png")
    settings = (f"checkpoint={trained}", f"input={tmp_path / 'photo.png'}")
    on_machine(machine, "predict", *settings, f"precision={precision}", f"run_folder={tmp_path / 'cuda'}")
    on_cpu("predict", *settings, f"run_folder={tmp_path / 'cpu'}")
    found, expected = (np.asarray(Image.open(tmp_path / folder / "photo_label.png")) for folder in ("cuda", "cpu"))
    assert found.shape == expected.shape == (48, 72)
    assert (found != expected).mean() <= NARROW.get(precision, 0)
