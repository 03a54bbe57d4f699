from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import run
from PIL import Image

from runners import doctor
from segnext.doctor import Finding, State

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    """What the machine's checks find."""
    findings = [Finding("Python", State.ok, "3.11")]
    monkeypatch.setattr(doctor, "examine_machine", lambda **settings: iter(findings))
    return findings


def write_dataset(root: Path, *values: int) -> None:
    for split in ("train", "val"):
        for folder in ("images", "annotations"):
            (root / folder / split).mkdir(parents=True)
        Image.new("RGB", (len(values), 1)).save(root / f"images/{split}/{split}.png")
        Image.fromarray(np.array([values], np.uint8)).save(root / f"annotations/{split}/{split}.png")
    (root / "classes.yaml").write_text("names: [ground, leaf, stem]\n")


def test_a_healthy_machine_and_dataset_end_in_exit_code_0(
    machine: list[Finding], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write_dataset(tmp_path, 0, 0, 1, 2)
    assert run(doctor.main, monkeypatch, "dataset=folder", f"dataset.root={tmp_path}") == 0
    shown = capsys.readouterr().out
    assert "Healthy." in shown
    row = next(line for line in shown.splitlines() if "ground" in line)
    assert row.split() == ["0", "ground", "50.00", "1", "50.00", "1"]


def test_browse_leaves_a_page_of_the_dataset_and_says_where(
    machine: list[Finding], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write_dataset(tmp_path / "data", 0, 0, 1, 2)
    settings = ("dataset=folder", f"dataset.root={tmp_path / 'data'}", f"output_dir={tmp_path / 'out'}", "browse=true")
    assert run(doctor.main, monkeypatch, *settings) == 0
    page = tmp_path / "out" / "browse_folder.html"
    assert f"page: {page}" in capsys.readouterr().out
    assert page.read_text().count(">draw ") == 8


def test_a_warning_is_healthy_and_a_problem_is_not(
    machine: list[Finding], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.append(Finding("CPU", State.warning, "busy"))
    assert run(doctor.main, monkeypatch) == 0
    assert "Healthy, 1 warning." in capsys.readouterr().out
    machine.append(Finding("Compiler", State.problem, "g++ not found", "install g++"))
    assert run(doctor.main, monkeypatch) == 1
    shown = capsys.readouterr().out
    assert "→ install g++" in shown
    assert "Not healthy: 1 problem, 1 warning." in shown


def test_an_unsound_dataset_ends_in_exit_code_1(
    machine: list[Finding], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write_dataset(tmp_path, 0, 1, 2, 3)
    assert run(doctor.main, monkeypatch, "dataset=folder", f"dataset.root={tmp_path}") == 1
    assert "dataset.reduce_zero_label=true" in " ".join(capsys.readouterr().out.split())


def test_names_of_classes_and_files_are_shown_as_they_are(
    machine: list[Finding], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root = tmp_path / "[red]data[" / ":smile:"
    write_dataset(root, 0, 0, 1, 2)
    (root / "classes.yaml").write_text('names: ["[bold]ground", "[/]leaf", ":smile: stem"]\n')
    assert run(doctor.main, monkeypatch, "dataset=folder", f"dataset.root='{root}'") == 0
    shown = capsys.readouterr().out
    for name in ("[bold]ground", "[/]leaf", ":smile: stem", "[red]data[/:smile:"):
        assert name in shown


@pytest.mark.parametrize("arguments", [("--help",), ("trial=false", "dataset=folder")])
def test_a_terminal_without_utf_8_gets_escapes_instead_of_a_failure(arguments: tuple[str, ...], tmp_path: Path) -> None:
    write_dataset(tmp_path, 0, 0, 1, 2)
    (tmp_path / "classes.yaml").write_text("names: [sol, fée, tige]\n", encoding="utf-8")
    if len(arguments) > 1:
        arguments = (*arguments, f"dataset.root={tmp_path}")
    done = subprocess.run(
        [sys.executable, "-m", "runners.doctor", *arguments],
        env=os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert "error" not in done.stderr
    assert "Traceback" not in done.stderr
    if len(arguments) > 1:
        assert "f\\xe9e" in done.stdout


def test_the_lists_of_a_split_are_named_one_by_one(
    machine: list[Finding], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write_dataset(tmp_path, 0, 1, 2)
    for split in ("train", "val"):
        (tmp_path / f"{split}-list").write_text(f"{split}/{split}\n")
    lists = [f"dataset.split_files.{split}={split}-list" for split in ("train", "val")]
    assert run(doctor.main, monkeypatch, "dataset=folder", f"dataset.root={tmp_path}", *lists) == 0
    assert capsys.readouterr().out.count("1 pairs, 3×1") == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("dataset.root=/data", "add dataset=folder"),
        ("browse=true", "add dataset=folder"),
        ("max_images=0", "at least 1"),
        ("dataset=camvd", "did you mean camvid?"),
        ("trail=false", "did you mean trial?"),
    ],
)
def test_wrong_settings_end_in_exit_code_2(
    machine: list[Finding],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    override: str,
    message: str,
) -> None:
    assert run(doctor.main, monkeypatch, override) == 2
    assert message in capsys.readouterr().err


def test_no_line_is_wider_than_80_columns(
    machine: list[Finding], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.append(Finding("Caches", State.warning, "/a" * 100, "free some space " * 20))
    monkeypatch.setenv("COLUMNS", "200")
    run(doctor.main, monkeypatch, "dataset=shapes", "dataset.train_images=3", "dataset.val_images=2")
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "".join(lines).replace(" ", "").count("/a") == 100


def test_without_a_compiler_the_doctor_still_answers(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "runners.doctor", f"output_dir={tmp_path}"],
        cwd=REPOSITORY,
        env={"PATH": str(tmp_path), "HOME": str(tmp_path), "WANDB_MODE": "offline"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "g++ not found" in done.stdout
    assert "left out because of the problems above" in done.stdout
    assert "Not healthy" in done.stdout
    assert done.stderr == ""
