from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segnext.data.settings import InferenceSettings
from segnext.errors import TrainingError
from segnext.evaluation.evaluator import EvaluationResult, evaluate
from segnext.evaluation.extremes import read_extremes, write_extremes
from segnext.evaluation.inference import SegmentationPredictor
from tests.evaluation.fakes import FakeDataset, FakeModel

SETTINGS = InferenceSettings(windows="whole", scale=None)


def evaluated(folder: Path, *, images: int = 7, count: int = 2) -> EvaluationResult:
    model, dataset = FakeModel(5), FakeDataset(images)
    result = evaluate(model, dataset, settings=SETTINGS, workers=0)
    write_extremes(folder, model, dataset, result, settings=SETTINGS, count=count)
    return result


def test_the_best_and_the_worst_images_are_kept_in_order(tmp_path: Path) -> None:
    result = evaluated(tmp_path)
    kept = read_extremes(tmp_path)
    scores = dict(zip(result.per_image.names, result.per_image.mIoU(), strict=True))
    ranked = sorted(scores, key=lambda name: -scores[name])
    assert [extreme.name for extreme in kept] == [*ranked[:2], *ranked[-2:]]
    assert [extreme.best for extreme in kept] == [True, True, False, False]
    assert kept[0].mIoU == pytest.approx(scores[kept[0].name])


def test_truth_prediction_and_confidence_are_those_of_the_image(tmp_path: Path) -> None:
    evaluated(tmp_path)
    first, dataset = read_extremes(tmp_path)[0], FakeDataset(7)
    index = next(i for i in range(7) if dataset.name(i) == first.name)
    image, confidence = first.load(tmp_path)
    predictor = SegmentationPredictor(FakeModel(5), SETTINGS)
    labels = predictor.predict(dataset.read(index).image, first.name)
    assert np.array_equal(image.prediction, labels)
    assert np.array_equal(image.truth, dataset.read(index).label)
    assert confidence.shape == labels.shape
    assert confidence.min() >= 255 // 5  # the best of five is no less probable than a fifth


def test_confidence_is_the_probability_of_the_predicted_class() -> None:
    image = FakeDataset(1).read(0).image
    predictor = SegmentationPredictor(FakeModel(5), SETTINGS)
    labels, confidence = predictor.predict_with_confidence(image, "a")
    probabilities = predictor.probabilities(image, "a")
    assert np.array_equal(labels, predictor.predict(image, "a"))
    np.testing.assert_allclose(confidence, probabilities.max(axis=0), atol=1e-5)


def test_no_image_is_kept_twice_and_an_earlier_evaluations_images_go(tmp_path: Path) -> None:
    evaluated(tmp_path, images=7)
    evaluated(tmp_path, images=3, count=2)
    names = [extreme.name for extreme in read_extremes(tmp_path)]
    assert len(set(names)) == len(names) == 3
    assert len(list((tmp_path / "extremes").glob("*_image.jpg"))) == 3


@pytest.mark.parametrize("text", ["", "[]", "{}", "[1]", '[{"name": "a", "mIoU": 0.5, "best": true, "stem": "../a"}]'])
def test_a_list_that_is_none_of_ours_is_empty(text: str, tmp_path: Path) -> None:
    (tmp_path / "extremes").mkdir()
    (tmp_path / "extremes" / "extremes.json").write_text(text)
    assert read_extremes(tmp_path) == []


def test_a_place_that_cannot_be_written_is_named_with_its_cure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match=r"cannot write .*extremes .*: free disk space"):
        evaluated(tmp_path / "file")
