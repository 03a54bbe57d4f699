"""What the page shows closely of one run, and that damage to its tables and images costs only what is damaged."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from segnext.evaluation.evaluator import evaluate
from segnext.evaluation.extremes import write_extremes
from segnext.evaluation.results import write_tables
from segnext.report.collect import collect
from segnext.report.details import bootstrap_record, confusion_chart, details
from tests.evaluation.fakes import FakeDataset, FakeModel
from tests.evaluation.test_extremes import SETTINGS
from tests.mutations import limits, mutated
from tests.report.sweep import make_run


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("details")
    folder = make_run(root, "a")
    model, dataset = FakeModel(5), FakeDataset(6)
    result = evaluate(model, dataset, settings=SETTINGS, workers=0)
    write_tables(folder.evaluation, result, dataset.classes, picture=False)
    write_extremes(folder.evaluation, model, dataset, result, settings=SETTINGS, count=2)
    return root


def test_a_run_shows_its_best_and_worst_images_with_confidence(whole: Path) -> None:
    (run,) = collect(whole)
    shown = details(run)
    assert [sample.title.split(":")[0] for sample in shown.samples] == ["best", "best", "worst", "worst"]
    captions = [caption for caption, _ in shown.samples[0].pictures]
    assert captions == ["image", "truth", "prediction", "confidence (white: certain)"]
    assert shown.damaged == []


def test_the_confusion_matrix_is_in_per_cent_of_the_true_class(tmp_path: Path) -> None:
    file = tmp_path / "confusion.csv"
    file.write_text('label,"sky, blue",road\n"sky, blue",3,1\nroad,0,0\n')
    figure = confusion_chart(file)
    assert figure is not None
    (trace,) = figure["data"]
    assert trace["x"] == ["sky, blue", "road"]
    assert (trace["y"], trace["customdata"]) == (["road", "sky, blue"], [[0.0, 0.0], [75.0, 25.0]])


def test_damage_to_an_evaluation_costs_what_is_damaged(whole: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(whole, tmp_path / "runs"))
    files = sorted(path.relative_to(whole) for path in (whole / "a" / "evaluation").rglob("*.*"))
    (run,) = collect(root)
    for seed in range(90):
        file = files[seed % len(files)]
        (root / file).write_bytes(mutated((whole / file).read_bytes(), np.random.default_rng(seed)))
        with limits():
            try:
                details(run)
                bootstrap_record(run)
            finally:
                shutil.copy(whole / file, root / file)
