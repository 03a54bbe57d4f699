"""Every command that the pages and the help texts show is one that the verbs take."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from hydra.core.override_parser.overrides_parser import OverridesParser

from runners.report import overrides
from segnext.app.keys import key_names
from segnext.app.renamed import modernised
from segnext.app.resolution import register, resolve
from segnext.app.schema import VERBS

ROOT = Path(__file__).parents[2]
RUN_ELSEWHERE = "own-data.md"  # test_own_data.py
PAGES = [
    page
    for page in (ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("conf/*.yaml"))
    if page.name != RUN_ELSEWHERE
]
OF_PLUGINS = re.compile(r"hydra[./]|\+sweep=(search|slurm)|\w+\(|…|--")  # tests/sweeps
COMMAND = re.compile(r"^\s*(?:\w+=\S+ )*(?:segnext|python -m runners\.?) ?(\w+) (.*)", re.MULTILINE)


def commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Verb and arguments of the commands that stand on lines of their own."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for verb, rest in COMMAND.findall(text):
        words = shlex.split(re.split(r"\s{2,}| \| | > | && ", rest)[0], comments=True)
        if verb in VERBS and not any(OF_PLUGINS.search(word) for word in words):
            yield verb, words


def single(argument: str) -> str:
    """The first of the values that a `-m` command goes through."""
    (override,) = OverridesParser.create().parse_overrides([argument])
    if not override.is_sweep_override() or not override.is_choice_sweep():
        return argument
    return f"{argument.split('=')[0]}={next(override.sweep_string_iterator())}"


SHOWN = {(verb, *words): page.name for page in PAGES for verb, words in commands(page)}


def test_there_are_commands_of_every_verb() -> None:
    assert {verb for verb, *_ in SHOWN} == set(VERBS)
    assert len(SHOWN) > 40


@pytest.mark.parametrize("command", SHOWN, ids=" ".join)
def test_a_command_that_is_shown_is_taken(command: tuple[str, ...]) -> None:
    verb, *words = command
    given = [word for word in (overrides(words) if verb == "report" else words) if word not in ("-m", "--multirun")]
    given, _ = modernised(given, key_names(VERBS[verb]))
    given = [single(argument) for argument in given]
    register(verb)
    with initialize_config_module("conf", version_base="1.3"):
        resolve(compose(verb, overrides=given), VERBS[verb], given)
