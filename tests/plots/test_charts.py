from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segnext.errors import DataError
from segnext.plots.charts import Point, Series, pareto_front, plot_confusion, plot_cost, plot_curves, save

NOTHING: Series = (np.zeros(0, np.int64), np.zeros(0))


def curve() -> dict[str, Series]:
    iterations = np.arange(10, 2010, 10)
    loss = np.where(iterations == 30, 100.0, 2.0)
    miou = np.array([1000, 2000]), np.array([0.5, 0.4])
    return {"loss": (iterations, loss), "rate": (iterations, np.full(200, 6e-5)), "miou": miou}


def test_the_curves_show_loss_rate_and_miou_in_per_cent_with_the_best() -> None:
    loss, rate, miou = plot_curves(**curve(), title="tiny on shapes").axes
    assert [axis.get_ylabel() for axis in (loss, rate, miou)] == ["loss", "learning rate", "validation mIoU, %"]
    assert np.asarray(miou.lines[0].get_ydata()).tolist() == [50.0, 40.0]
    assert "best 50.0 % at 1000" in [text.get_text() for text in miou.texts]


def test_one_spike_neither_flattens_the_loss_nor_bends_the_smooth_line() -> None:
    loss = plot_curves(**curve()).axes[0]
    assert loss.get_ylim()[1] < 10
    assert set(np.asarray(loss.lines[1].get_ydata())) == {2.0}


def test_a_run_without_evaluation_or_with_a_loss_that_is_not_finite_can_be_drawn(tmp_path: Path) -> None:
    loss = np.array([1, 2]), np.array([np.nan, 1.0])
    save(plot_curves(loss=loss, rate=NOTHING, miou=NOTHING), tmp_path / "new" / "curves.png")
    with Image.open(tmp_path / "new" / "curves.png") as image:
        assert image.size == (960, 840)


def test_a_log_without_curves_says_so() -> None:
    with pytest.raises(DataError, match="nothing to draw"):
        plot_curves(loss=NOTHING, rate=NOTHING, miou=NOTHING)


def test_the_confusion_matrix_is_in_per_cent_of_the_true_class() -> None:
    figure = plot_confusion(np.array([[3, 1], [0, 0]]), ["sky", "road"])
    share = np.array(figure.axes[0].images[0].get_array())
    assert share[0].tolist() == [75.0, 25.0]
    assert np.isnan(share[1]).all()
    assert [text.get_text() for text in figure.axes[0].texts] == ["75", "25"]


@pytest.mark.parametrize("classes", [2, 19, 150])
def test_a_confusion_matrix_names_every_class(classes: int, tmp_path: Path) -> None:
    names = [f"class {k}, also known by a very long name" for k in range(classes)]
    figure = plot_confusion(np.eye(classes, dtype=np.int64), names)
    assert len(figure.axes[0].get_yticklabels()) == classes
    save(figure, tmp_path / "confusion.png")
    with Image.open(tmp_path / "confusion.png") as image:
        assert max(image.size) < 3200


def test_a_matrix_of_other_classes_is_refused() -> None:
    with pytest.raises(DataError, match="does not fit"):
        plot_confusion(np.eye(3, dtype=np.int64), ["sky"])


def test_the_pareto_front_leaves_out_what_a_cheaper_model_beats() -> None:
    tiny, small, base, large = Point("t", 6, 0.4), Point("s", 15, 0.5), Point("b", 35, 0.45), Point("l", 70, 0.51)
    assert pareto_front([large, base, small, tiny, Point("x", 15, 0.3)]) == [tiny, small, large]


def test_the_cost_chart_draws_runs_and_the_papers_points() -> None:
    figure = plot_cost({"ade": [Point("tiny", 6e9, 0.4)]}, reference={"ade": [Point("tiny", 6.6e9, 0.411)]})
    _, labels = figure.axes[0].get_legend_handles_labels()
    assert labels == ["ade, paper", "ade"]


def test_drawing_does_not_touch_pyplot() -> None:
    before = "matplotlib.pyplot" in sys.modules
    plot_cost({})
    assert ("matplotlib.pyplot" in sys.modules) == before
