from __future__ import annotations

import sys
from typing import Any

import pytest

from segnext.errors import ConfigError
from segnext.tracking.dashboard import build_dashboard


@pytest.fixture
def panels(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The panels of the workspace as W&B would receive them."""
    pytest.importorskip("wandb_workspaces")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    workspace = build_dashboard("someone", "segnext")
    assert (workspace.entity, workspace.project) == ("someone", "segnext")
    spec = workspace._to_model().model_dump(by_alias=True)["spec"]
    sections = spec["section"]["panelBankConfig"]["sections"]
    return [panel for section in sections for panel in section["panels"]]


def of_type(panels: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [panel["config"] for panel in panels if panel["viewType"] == kind]


def test_miou_is_set_against_flops(panels: list[dict[str, Any]]) -> None:
    (scatter,) = of_type(panels, "Scatter Plot")
    assert (scatter["xAxis"], scatter["yAxis"]) == ("summary:flops", "summary:best_mIoU")
    assert scatter["xAxisLogScale"]


def test_bars_show_the_best_miou_by_model_and_by_run(panels: list[dict[str, Any]]) -> None:
    bars = of_type(panels, "Bar Chart")
    assert [bar["metrics"] for bar in bars] == [["best_mIoU"], ["best_mIoU"]]
    assert [bar["groupBy"] for bar in bars] == ["model_dataset.value", None]


def test_every_curve_is_drawn_over_the_iteration(panels: list[dict[str, Any]]) -> None:
    curves = of_type(panels, "Run History Line Plot")
    assert {curve["xAxis"] for curve in curves} == {"iteration"}
    assert ["val/mIoU"] in [curve["metrics"] for curve in curves if curve["groupBy"] == "model_dataset.value"]


def test_gradient_norm_memory_and_every_class_have_a_panel(panels: list[dict[str, Any]]) -> None:
    curves = of_type(panels, "Run History Line Plot")
    drawn = {metric for curve in curves for metric in curve["metrics"] or []}
    assert {"train/grad_norm", "train/device_memory_gib", "train/device_memory_peak_gib"} <= drawn
    assert "val/IoU/.*" in [curve["metricRegex"] for curve in curves]


def test_a_workspace_survives_the_way_there_and_back() -> None:
    workspaces = pytest.importorskip("wandb_workspaces.workspaces")
    workspace = build_dashboard("someone", "segnext")
    again = workspaces.Workspace._from_model(workspace._to_model())
    assert [s.name for s in again.sections] == [s.name for s in workspace.sections]
    assert [len(s.panels) for s in again.sections] == [3, 5, 1, 3, 1]


def test_without_the_library_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb_workspaces.workspaces", None)
    with pytest.raises(ConfigError, match=r"pip install '\.\[dashboard\]'"):
        build_dashboard("someone", "segnext")
