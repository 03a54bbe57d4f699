"""Values with characters that mean something to Hydra or to a shell."""

from __future__ import annotations

import shlex

import pytest
from commands import run
from hydra.core.override_parser.overrides_parser import OverridesParser

import runners.prepare
from segnext.app.overrides import quoted_override
from segnext.settings import literal

NAMES = [
    "a=b", "lr=1,seed=2", "a (1)", "#1", "a&b", "wow!", "it's", "~me", "[old]", "caf\u00e9", "\u65e5\u672c", "a;b",
    "{x}", 'say "a"', "back\\slash", "end\\", '\\"', "$HOME", "a b",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_the_quoted_form_pasted_into_a_shell_gives_the_name(name: str) -> None:
    (argument,) = shlex.split(quoted_override(f"key={name}"))
    assert OverridesParser.create().parse_override(argument).value() == name


@pytest.mark.parametrize("name", ["${x}", "a${oc.env:HOME}"])
def test_no_name_is_taken_for_an_interpolation(name: str) -> None:
    assert "\\${" in literal(name)


@pytest.mark.parametrize("name", ["/data/a=b", "/data/(1)", "/data/caf\u00e9", "/data/it's", "/data/a,b"])
def test_the_message_shows_the_form_that_works(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("dataset=cityscapes", f"dataset.root={name}")
    assert run(runners.prepare.main, monkeypatch, *command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    quoted = quoted_override(command[1])
    assert f"if it is a name, quote it, {quoted}" in line
    assert run(runners.prepare.main, monkeypatch, "dataset=cityscapes", *shlex.split(quoted)) == 2
    assert f"{name}/gtFine does not exist" in capsys.readouterr().err


def test_a_word_that_is_no_setting_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(runners.prepare.main, monkeypatch, "photos/*.jpg") == 2
    assert "photos/*.jpg is no setting: give KEY=VALUE" in capsys.readouterr().err
