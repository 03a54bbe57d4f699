from __future__ import annotations

import importlib.metadata
import sys
from types import SimpleNamespace

import pytest
import requests

from segnext.doctor import State, packages


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A W&B that has an API key."""
    settings = SimpleNamespace(base_url="https://wandb.example")
    fake = SimpleNamespace(
        Settings=lambda **_: None, setup=lambda **_: SimpleNamespace(settings=settings), login=lambda **_: True
    )
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setitem(sys.modules, "wandb", fake)


def test_the_environments_choice_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    finding = packages.check_wandb()
    assert finding.state is State.ok
    assert finding.text.startswith("offline (WANDB_MODE)")


@pytest.mark.usefixtures("key")
def test_with_a_key_and_a_server_it_is_online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "head", lambda server, timeout: None)
    finding = packages.check_wandb()
    assert finding.state is State.ok
    assert finding.text.startswith("online, https://wandb.example")


@pytest.mark.usefixtures("key")
def test_a_server_that_does_not_answer_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(server: str, timeout: float) -> None:
        raise requests.ConnectionError("no route")

    monkeypatch.setattr(requests, "head", fail)
    finding = packages.check_wandb()
    assert finding.state is State.warning
    assert "WANDB_MODE=offline" in finding.cure


def test_a_missing_package_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert packages.check_wandb().state is State.problem
