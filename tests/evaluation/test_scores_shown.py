"""What is printed and recorded of an evaluation's scores."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from segnext.evaluation.results import _class_table, validation_metrics


def scores(iou: list[float], accuracy: list[float]) -> Any:
    return SimpleNamespace(mIoU=0.5, mAcc=0.6, aAcc=0.7, IoU=np.array(iou), Acc=np.array(accuracy))


def test_the_class_table_shows_per_cent_and_a_dash_for_an_absent_class(capsys: pytest.CaptureFixture[str]) -> None:
    Console(width=80).print(_class_table(["road", "bed "], scores([0.914, math.nan], [0.95, math.nan])))
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["class", "IoU", "%", "Acc", "%"],
        ["road", "91.4", "95.0"],
        ["bed", "–", "–"],
    ]


def test_150_classes_with_long_names_fit_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["swivel chair, office chair, desk chair"] * 150
    Console(width=80).print(_class_table(names, scores([0.5] * 150, [0.5] * 150)))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 76
    assert max(map(cell_len, lines)) <= 80


def test_validation_metrics_have_the_names_of_the_contract() -> None:
    metrics = validation_metrics(scores([0.25, math.nan], [0.5, math.nan]), ["bed ", "door"])
    assert list(metrics) == ["val/mIoU", "val/mAcc", "val/aAcc", "val/IoU/bed", "val/IoU/door"]
    assert metrics["val/IoU/bed"] == 0.25
    json.dumps(metrics)
