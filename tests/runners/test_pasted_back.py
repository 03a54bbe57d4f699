"""What the product prints can be pasted back: commands are run here as they were printed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import runners.evaluate
import runners.report
import runners.train
from segnext.app.schema import TrainConfig
from segnext.data.classes import SHAPES
from segnext.data.settings import InferenceSettings
from segnext.tracking.run_folder import RunFolder
from segnext.weights import trained
from segnext.weights.checkpoint import CheckpointInfo
from tests.evaluation.fakes import FakeModel
from tests.report.sweep import make_run
from tests.runners.commands import run

VERBS = {verb: getattr(runners, verb).main for verb in ("evaluate", "report", "train")}
SETTINGS = {
    "dataset": {"name": "shapes", "image_size": [64, 64], "val_images": 2},
    "schedule": {"iterations": 200},
}


def trained_run(root: Path, job: str) -> RunFolder:
    """A run on drawn shapes that has left a checkpoint."""
    folder = make_run(root, job, **SETTINGS)
    info = CheckpointInfo("tiny", "shapes", SHAPES, 16, InferenceSettings(scale=(64, 64)), iteration=200)
    folder.checkpoints.mkdir(exist_ok=True)
    save_file({"x": np.zeros(1, np.float32)}, folder.checkpoints / "best.safetensors", metadata=info.to_metadata())
    return folder


def commands(text: str) -> list[list[str]]:
    """The commands in a text, as a shell would split them: verb and arguments."""
    found = re.findall(r"python -m runners\.(\w+ [^`\n]*\S)", text)
    return [shlex.split(command) for command in found]


@pytest.fixture(autouse=True)
def cheap_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trained, "load_weights", lambda *args, **kwargs: None)
    monkeypatch.setattr(trained.TrainedModel, "build", lambda model, **others: FakeModel(model.num_classes))


def test_what_a_report_lacks_comes_by_the_command_that_it_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = tmp_path / "it's {the} (paper), again"
    trained_run(sweep, "tiny_seed-0-1a")
    assert run(VERBS["report"], monkeypatch, str(sweep)) == 0
    (command,) = commands(capsys.readouterr().out)
    assert command[0] == "evaluate"
    assert run(VERBS["evaluate"], monkeypatch, *command[1:]) == 0
    capsys.readouterr()
    assert run(VERBS["report"], monkeypatch, str(sweep)) == 0
    assert "no multi-scale evaluation" not in capsys.readouterr().out


def test_an_interrupted_run_goes_on_by_the_command_that_the_report_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = trained_run(tmp_path / "a b=c", "0")
    folder.write_status("interrupted", exit_reason="SIGTERM")
    run(VERBS["report"], monkeypatch, str(tmp_path / "a b=c"))
    command = next(words for words in commands(capsys.readouterr().out) if words[0] == "train")
    asked: list[str | None] = []

    def note(config: TrainConfig) -> None:
        asked.append(config.resume)

    monkeypatch.setattr(runners.train, "finished_run", note)
    monkeypatch.setattr(runners.train, "create_dataset", lambda *args, **kwargs: 1 / 0)  # as far as this goes
    run(VERBS["train"], monkeypatch, *command[1:])
    assert asked == [str(folder.path)]
