from __future__ import annotations

import json
from pathlib import Path

import pytest

import segnext
from runners.benchmark import main
from tests.runners.commands import run

SMALL = ("model=tiny", "dataset=shapes", "num_classes=2", "crop=[32,32]", "batch=2", "warmup=1", "repeats=2")


def test_a_benchmark_leaves_a_table_and_a_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    what = ("what=[train,inference,evaluate,data,logits]", "workers=0", f"run_folder={tmp_path / 'run'}")
    drawn = ("dataset.image_size=[32,32]", "dataset.test.scale=null", "dataset.val_images=3")
    assert run(main, monkeypatch, *SMALL, *what, *drawn) == 0
    record = json.loads((tmp_path / "run" / "benchmark.json").read_text())
    assert [(row["what"], row["runs_on"]) for row in record["rows"]] == [
        ("train", "Jittor"),
        ("inference", "Jittor"),
        ("evaluate", "Jittor"),
        ("data", "NumPy"),
        ("logits", "Jittor"),
    ]
    assert all(len(row["timing"]["seconds"]) == 2 for row in record["rows"])
    assert all(0 < row["fraction_of_macs_rate"] < 1 for row in record["rows"][:2])
    assert record["rows"][0]["macs"] > 2.9 * record["rows"][1]["macs"]
    assert record["rows"][0]["peak_bytes"] > 50 << 20
    assert record["rows"][2]["timing"]["images"] == 3
    assert record["rows"][2]["macs"] == 3 * segnext.complexity("tiny", num_classes=2, height=32, width=32).macs
    assert sum(kind["calls"] for kind in record["operators"]["train"]) > 100
    lines = capsys.readouterr().out.splitlines()
    assert "tiny, 2 images of 32×32, an evaluation of 3 images, cpu, fp32" in lines
    assert max(len(line) for line in lines if not line.startswith("results:")) <= 80


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("what=speed", "what=speed is out of range"),
        ("what=train,inference", "write 'what=[train,inference]'"),
        ("what='train,speed'", "what=speed is out of range"),
        ("precision=fp8", "expected one of [fp32, tf32, bf16, fp16]"),
        ("crop=[16,16]", "at least 32 pixels"),
        ("torch_settings=[fast]", "torch_settings=fast"),
        ("repeats=0", "repeats=0"),
    ],
)
def test_a_wrong_setting_is_named_before_any_work(
    override: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(main, monkeypatch, override) == 2
    assert message in capsys.readouterr().err


def test_measuring_data_that_is_not_there_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(main, monkeypatch, "dataset=ade", f"dataset.root={tmp_path}", "what=data") == 2
    assert str(tmp_path) in capsys.readouterr().err
