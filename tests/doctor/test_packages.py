from __future__ import annotations

import importlib.metadata
import sys

import pytest

from segnext.doctor import State, packages


def pretend(monkeypatch: pytest.MonkeyPatch, **versions: str | None) -> None:
    """Lets the named distributions have other versions; None: not installed."""
    installed = importlib.metadata.version

    def version(name: str) -> str:
        found = versions[name] if name in versions else installed(name)
        if found is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(importlib.metadata, "version", version)


def test_numpy_2_is_a_problem_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, numpy="2.1.0")
    finding = packages.check_numpy()
    assert finding.state is State.problem
    assert finding.text.startswith("2.1.0")
    assert finding.cure == 'pip install "numpy<2"'


@pytest.mark.parametrize("version", [None, "1.3.9.14"])
def test_a_missing_or_other_jittor_is_a_problem_with_its_cure(
    monkeypatch: pytest.MonkeyPatch, version: str | None
) -> None:
    pretend(monkeypatch, jittor=version)
    finding = packages.check_jittor()
    assert finding.state is State.problem
    assert finding.cure == "pip install jittor==1.3.11.0"


def test_an_unsupported_python_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 13, 1))
    assert packages.check_python().state is State.problem


def test_missing_and_unfit_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "_requirements", lambda: ["rich>=13,<16", "psutil>=5.9", "safetensors>=0.4"])
    pretend(monkeypatch, rich="12.0", psutil=None)
    finding = packages.check_requirements()
    assert finding.state is State.problem
    assert finding.text == "rich 12.0 is not <16,>=13, psutil is missing"
    assert finding.cure == 'pip install "rich<16,>=13" "psutil>=5.9"'


def test_packages_of_extras_and_of_other_systems_are_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["rich", 'torch>=2; extra == "parity"', 'nothing>=1; sys_platform == "nowhere"']
    monkeypatch.setattr(packages, "_requirements", lambda: lines)
    finding = packages.check_requirements()
    assert finding.state is State.ok
    assert "the 1 others" in finding.text
