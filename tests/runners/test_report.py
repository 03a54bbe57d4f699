from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from runners.report import overrides
from segnext.evaluation.metrics import Counts, PerImageCounts
from tests.report.sweep import make_sweep

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "runners.report", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("given", "hydra"),
    [
        (["outputs/sweeps/a b"], ['path="outputs/sweeps/a b"']),
        (["it's", "output=x"], ['path="it\'s"', "output=x"]),
        (["compare", "a", "b=c", "b"], ["compare=[a,b]", "b=c"]),
        (["path=x"], ["path=x"]),
        (["--help"], ["--help"]),
        (["--cfg", "job"], ["--cfg", "job"]),
    ],
)
def test_positional_arguments_become_settings(given: list[str], hydra: list[str]) -> None:
    assert overrides(given) == hydra


def test_a_sweep_with_an_awkward_name_gets_its_page_table_and_figure(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path / "it's {the} (paper), again")
    done = run(str(sweep))
    assert (done.returncode, done.stderr) == (0, "")
    assert "tiny ade: mIoU 42.0 ± 2.8 % (2 finished)" in done.stdout
    assert "3 is failed at 100 of 200 iterations: loss is not finite" in done.stdout
    assert sorted(path.name for path in (sweep / "report").iterdir()) == ["cost.png", "index.html", "runs.csv"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "error: nowhere is no folder"),
        ([], "error: name the folder of a sweep"),
        (["dashboard=x"], "error: dashboard=x: write dashboard=ENTITY/PROJECT"),
        (["compare", "a"], "error: 1 evaluations to compare"),
        (["compare", "a", "b"], "error: a does not exist"),
    ],
)
def test_wrong_input_ends_with_2_and_one_line(arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


def test_two_evaluations_are_compared(tmp_path: Path) -> None:
    for name, right in (("a", 50), ("b", 80)):
        (tmp_path / name).mkdir()
        counts = [Counts(*(np.array([x, 100]) for x in (right, 100, 100))) for _ in range(20)]
        names = [f"image {i}" for i in range(20)]
        PerImageCounts.stack(names, counts, num_classes=2).save(tmp_path / name / "per_image.npz")
    done = run("compare", str(tmp_path / "a"), str(tmp_path / "b"), "bootstrap_samples=50")
    assert done.returncode == 0, done.stderr
    # IoU of the first class: 50/150 and 80/120, of the second 1.
    assert "B - A: +16.67 points mIoU, 95 % interval +16.67 to +16.67 (20 images, 50 draws): they differ" in done.stdout
