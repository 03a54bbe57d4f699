"""`python -m runners.evaluate`, with a cheap model in place of the network."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

import runners.evaluate
from segnext.data.classes import ADE, CITYSCAPES, SHAPES, ClassTable
from segnext.data.settings import InferenceSettings
from segnext.evaluation.compare import compare
from segnext.evaluation.metrics import PerImageCounts
from segnext.weights import trained
from segnext.weights.checkpoint import CheckpointInfo
from tests.evaluation.fakes import FakeModel
from tests.runners.commands import run


def checkpoint(path: Path, classes: ClassTable, model: str = "tiny") -> Path:
    info = CheckpointInfo(model, classes.name, classes, 16, InferenceSettings(), iteration=7)
    save_file({"x": np.zeros(1, np.float32)}, path, metadata=info.to_metadata())
    return path


@pytest.fixture(autouse=True)
def cheap_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(trained_model: trained.TrainedModel, **others: Any) -> FakeModel:
        return FakeModel(trained_model.num_classes, noise=2.0)

    monkeypatch.setattr(trained, "load_weights", lambda *args, **kwargs: None)
    monkeypatch.setattr(trained.TrainedModel, "build", build)


def evaluate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> tuple[int, Path]:
    """Exit code and run folder of an evaluation on six drawn images."""
    weights = checkpoint(tmp_path / "shapes.safetensors", SHAPES)
    folder = tmp_path / "run"
    fixed = ["dataset=shapes", "dataset.val_images=6", f"checkpoint={weights}", f"run_folder={folder}", "workers=0"]
    return run(runners.evaluate.main, monkeypatch, *fixed, *overrides), folder


def test_the_run_folder_holds_scores_tables_and_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, folder = evaluate(tmp_path, monkeypatch, "evaluation.boundary=true")
    assert code == 0
    metrics = json.loads((folder / "metrics.json").read_text())
    rows = json.loads((folder / "per_class.json").read_text())
    table = list(csv.DictReader((folder / "per_class.csv").open()))
    confusion = np.array(list(csv.reader((folder / "confusion.csv").open()))[1:])[:, 1:].astype(int)
    assert [row["class"] for row in rows] == [row["class"] for row in table] == list(SHAPES.names)
    iou = [row["IoU"] for row in rows]
    assert metrics["mIoU"] == pytest.approx(np.mean(iou), abs=1e-12)
    assert [float(row["IoU"]) for row in table] == iou
    assert metrics["aAcc"] == pytest.approx(np.trace(confusion) / confusion.sum(), abs=1e-12)
    assert confusion.sum(axis=1).tolist() == [row["labelled_pixels"] for row in rows]
    assert 0 < metrics["boundary_mIoU"] < 1
    assert (metrics["images"], metrics["iteration"], metrics["mode"]) == (6, 7, "ss")
    assert len(PerImageCounts.load(folder / "per_image.npz").names) == 6
    assert Image.open(folder / "confusion.png").width > 200
    assert json.loads((folder / "status.json").read_text())["state"] == "finished"


def test_the_screen_fits_80_columns_and_speaks_per_cent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder = evaluate(tmp_path, monkeypatch)
    lines = capsys.readouterr().out.splitlines()
    miou = json.loads((folder / "metrics.json").read_text())["mIoU"]
    assert any(f"mIoU {100 * miou:.2f} %" in line for line in lines)
    assert any(line.startswith("striped disc") for line in lines)
    assert max(len(line) for line in lines if str(tmp_path) not in line) <= 80


def test_draws_repeat_with_other_bases_and_print_mean_and_spread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder = evaluate(tmp_path, monkeypatch, "evaluation.repeats=3")
    metrics = json.loads((folder / "metrics.json").read_text())
    draws = metrics["mIoU_per_repeat"]
    assert len(set(draws)) == 3
    assert metrics["mIoU"] == draws[0]
    assert metrics["mIoU_sd"] == pytest.approx(np.std(draws, ddof=1))
    text = f"mIoU over 3 draws of the NMF bases: {100 * np.mean(draws):.2f} ± {100 * np.std(draws, ddof=1):.2f} %"
    assert text in capsys.readouterr().out


def test_the_same_command_gives_the_same_counts_and_multi_scale_gives_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def counts(name: str, *overrides: str) -> PerImageCounts:
        _, folder = evaluate(tmp_path, monkeypatch, f"run_folder={tmp_path / name}", *overrides)
        assert folder is not None
        return PerImageCounts.load(tmp_path / name / "per_image.npz")

    first, again, multi = counts("a"), counts("b"), counts("c", "tta=true")
    assert compare(first, again).difference == 0
    assert compare(first, multi).difference != 0


def test_max_images_evaluates_the_first_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, folder = evaluate(tmp_path, monkeypatch, "evaluation.max_images=2")
    assert len(PerImageCounts.load(folder / "per_image.npz").names) == 2


def write_ade(root: Path) -> Path:
    for kind, suffix, shape in (("images", "jpg", (64, 96, 3)), ("annotations", "png", (64, 96))):
        folder = root / kind / "validation"
        folder.mkdir(parents=True)
        pixels = np.random.default_rng(0).integers(0, 151, shape).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"ADE_val_00000001.{suffix}")
    return root


def test_ade_shows_the_papers_figure_and_writes_a_submission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = checkpoint(tmp_path / "ade.safetensors", ADE)
    overrides = [f"dataset.root={write_ade(tmp_path / 'ade')}", f"checkpoint={weights}", "evaluation.submission=true"]
    code = run(
        runners.evaluate.main, monkeypatch, *overrides, f"run_folder={tmp_path / 'run'}", "workers=0", "tta=true"
    )
    assert code == 0
    out = capsys.readouterr().out
    assert "paper: 42.2 %" in out
    assert (tmp_path / "run/submission.zip").is_file()
    stored = np.asarray(Image.open(tmp_path / "run/submission/ADE_val_00000001.png"))
    assert stored.shape == (64, 96)
    assert 1 <= stored.min() <= stored.max() <= 150


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=small"], "is of model=tiny, not small: add model=tiny"),
        (["evaluation.submission=true"], "no submission format for dataset=shapes"),
        (["checkpoint=nothing.pth"], "nothing.pth does not exist"),
        (["split=vall"], "vall"),
        (["tta=mm"], "dataset.test.tta: Value 'mm'"),
        (["evaluation.repeats=0"], "evaluation.repeats=0"),
    ],
)
def test_wrong_settings_end_in_exit_code_2_and_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    overrides: list[str],
    message: str,
) -> None:
    code, folder = evaluate(tmp_path, monkeypatch, *overrides)
    assert code == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1
    assert message in error[0]
    assert not folder.exists()


def test_a_checkpoint_of_other_classes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = checkpoint(tmp_path / "city.safetensors", CITYSCAPES)
    code, _ = evaluate(tmp_path, monkeypatch, f"checkpoint={weights}")
    assert code == 2
    assert "knows the 19 classes of cityscapes, the dataset has 6" in capsys.readouterr().err
