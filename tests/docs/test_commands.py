"""Every command that pages, help texts and messages show is one that the verbs take."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from hydra.core.override_parser.overrides_parser import OverridesParser

from runners.report import overrides
from segnext.app.keys import key_names
from segnext.app.overrides import modernised
from segnext.app.resolution import register, resolve
from segnext.app.schema import VERBS

ROOT = Path(__file__).parents[2]
RUN_ELSEWHERE = "own-data.md"  # test_own_data.py
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("conf/*.yaml"))]
SOURCES = sorted(file for room in ("segnext", "runners") for file in (ROOT / room).rglob("*.py"))
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


def messages(source: Path) -> Iterator[str]:
    """The texts of a module, docstrings included, with an x where a value is filled in."""
    nodes = list(ast.walk(ast.parse(source.read_text(encoding="utf-8"))))
    filled = [node for node in nodes if isinstance(node, ast.JoinedStr)]
    parts = {id(part) for node in filled for part in node.values}
    for node in filled:
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "x" for part in node.values)
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node.value


def commands_in(message: str) -> Iterator[tuple[str, list[str]]]:
    """Verb and settings of the commands inside a text, as far as the settings go."""
    text = message.replace("dataset=…", "dataset=ade").replace("…", "x")
    for verb, rest in re.findall(r"python -m runners\.(\w+) ([^`;)]*)", text):
        given = shlex.split(rest)
        words = list(takewhile(lambda word: "=" in word or word == "-m", given))
        if verb in VERBS and words and "x" not in given:  # what a bare x stands for is run in test_pasted_back.py
            yield verb, words


SHOWN = dict.fromkeys(
    [(verb, *words) for page in PAGES if page.name != RUN_ELSEWHERE for verb, words in commands(page)]
    + [(verb, *words) for file in SOURCES for text in messages(file) for verb, words in commands_in(text)]
)


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
