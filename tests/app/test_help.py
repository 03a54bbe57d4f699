"""Help lists what a verb reads, and explains it."""

from __future__ import annotations

import copy
import importlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser

from segnext.app.keys import all_but, read_keys
from segnext.app.resolution import register
from segnext.app.schema import VERBS
from segnext.data.settings import DatasetSettings
from segnext.settings import literal
from tests.runners.commands import run


def help_of(verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(importlib.import_module(f"runners.{verb}").main, monkeypatch, *arguments, "--help") == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("verb", VERBS)
def test_help_lists_the_settings_that_a_verb_reads_and_no_others(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = re.findall(r"^  ([a-z_.]+)=", help_of(verb, monkeypatch, capsys), re.MULTILINE)
    assert sorted(shown) == sorted(key.name for key in read_keys(VERBS[verb]) if not key.is_group)


@pytest.mark.parametrize("verb", VERBS)
def test_every_setting_has_an_explanation_of_one_line(verb: str) -> None:
    for key in read_keys(VERBS[verb]):
        assert 3 < len(key.text) <= 110, key.name


def test_help_shows_the_values_as_the_command_line_makes_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = help_of("train", monkeypatch, capsys, "dataset=cityscapes", "schedule.lr=1e-3")
    assert re.search(r"^  dataset.crop=\[1024,1024\] +\(height, width\) of the training crops", shown, re.MULTILINE)
    assert re.search(r"^  schedule.lr=0.001 +base learning rate of AdamW$", shown, re.MULTILINE)


def test_on_a_terminal_explanations_are_wrapped_to_its_width(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    explanations = help_of("train", monkeypatch, capsys).splitlines()
    assert max(len(line) for line in explanations if " " * 10 in line) <= 80


def test_help_lists_the_choices_of_the_groups_that_a_verb_reads(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "mine.yaml").write_text("name: folder\n")
    shown = help_of("evaluate", monkeypatch, capsys, "--config-dir", str(tmp_path))
    choices = shown.partition("Choices (GROUP=OPTION):\n")[2].partition("\n\n")[0].splitlines()
    assert choices == [
        "dataset: ade, camvid, cityscapes, folder, mine, shapes",
        "model: base, large, small, tiny",
    ]


def test_all_but_spares_the_groups_that_are_named() -> None:
    spared = all_but("dataset", DatasetSettings, "name", "test")
    assert "dataset.root" in spared
    assert not any(key == "dataset.name" or key.startswith("dataset.test.") for key in spared)


@pytest.mark.parametrize("value", ["a b", "null", "it's", 'say "so"', "C:", "100%", "", "1e5", "tiny", "a/b-c.d"])
def test_hydra_reads_a_written_value_back(value: Any) -> None:
    for wanted in (value, [value, 1], {"a": value}, None, True, 0.5):
        (override,) = OverridesParser.create().parse_overrides([f"key={literal(wanted)}"])
        assert override.value() == wanted


def test_hydra_does_not_copy_its_store_for_every_group_of_the_help() -> None:
    register("train")
    assert copy.deepcopy(ConfigStore.instance()) is ConfigStore.instance()
