from __future__ import annotations

import importlib.metadata
import math
from pathlib import Path

import pytest

from segnext.doctor import State, trial
from segnext.doctor.trial import TrialResult, check_cache, check_onednn, check_trial, run_trial

FAKE = "from segnext.doctor import trial\ndef go(device):\n    {}\ntrial._try_out = go\nimport sys; trial.child('cpu')"


def tried(monkeypatch: pytest.MonkeyPatch, body: str, *, timeout: float = 60.0) -> TrialResult:
    """The trial with another body in its child process."""
    monkeypatch.setattr(trial, "_COMMAND", FAKE.format(body))
    return run_trial(timeout=timeout)


def test_jittor_computes_what_numpy_computes() -> None:
    result = run_trial("cpu")
    assert result.error == ""
    assert result.device == "cpu"
    assert 0 < result.deviation < 1e-3
    assert check_trial(result).state is State.ok
    assert Path(result.cache).is_dir()


def test_a_process_that_dies_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    result = tried(monkeypatch, "import os; os.kill(os.getpid(), 11)")
    assert "signal 11" in result.error
    assert check_trial(result).state is State.problem


def test_a_process_that_ends_without_a_word_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "exit code 0" in tried(monkeypatch, "import os; os._exit(0)").error


def test_a_process_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no result within 2 s" in tried(monkeypatch, "import signal; signal.pause()", timeout=2).error


def test_an_error_names_its_cure_or_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = tried(monkeypatch, "from segnext.errors import BackendError; raise BackendError('buy a GPU')")
    assert expected.error == "buy a GPU"
    surprise = tried(monkeypatch, "raise RuntimeError('odd')")
    assert surprise.error.startswith("RuntimeError: odd; the compiler's output is in ")
    assert surprise.error.endswith("jittor.log")


def test_a_first_compilation_is_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(trial, "_COMMAND", FAKE.format("trial._send({'announce': 'two minutes'}); return {}"))
    result = run_trial(announce=told.append)
    assert told == ["two minutes"]
    assert result.cold


@pytest.mark.parametrize("deviation", [0.5, math.nan])
def test_wrong_figures_are_a_problem(deviation: float) -> None:
    finding = check_trial(TrialResult(device="cpu", deviation=deviation, cache="/caches/c"))
    assert finding.state is State.problem
    assert "/caches/c" in finding.cure


def test_a_slow_warm_start_is_a_warning_and_a_slow_cold_one_is_not() -> None:
    assert check_trial(TrialResult(device="cpu", start_seconds=90)).state is State.warning
    assert check_trial(TrialResult(device="cpu", start_seconds=90, cold=True)).state is State.ok


def test_the_cache_is_warm_or_was_cold(tmp_path: Path) -> None:
    place = tmp_path / "jittor/jt1/segnext-0"
    place.mkdir(parents=True)
    assert check_cache(TrialResult(cache=str(place))).text == f"{tmp_path}/jittor, 0.0 GB, warm"
    assert check_cache(TrialResult(cache=str(place), cold=True)).text.endswith("was cold, is warm now")


def test_convolutions_without_onednn_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_onednn(TrialResult(onednn=True)).state is State.ok
    assert check_onednn(TrialResult(onednn=False)).state is State.warning

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert "pip install onednn" in check_onednn(None).cure
