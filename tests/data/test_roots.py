"""Where the published datasets lie: the command line wins over the environment, and that over the user's file."""

from __future__ import annotations

from pathlib import Path

import pytest

from segnext.data.catalog import create_dataset
from segnext.data.settings import ROOTS, data_root
from segnext.errors import ConfigError, DataError
from tests.app.test_config import train_config


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's file; no variable is set."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ROOTS:
        monkeypatch.delenv(f"SEGNEXT_{name.upper()}", raising=False)
    return tmp_path / "segnext.yaml"


def test_each_dataset_of_a_sweep_is_looked_for_where_it_lies(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("data: {ade: /from/file/ade, cityscapes: /from/file/cityscapes}\n")
    monkeypatch.setenv("SEGNEXT_CITYSCAPES", "/from/variable")
    roots = {name: train_config(f"dataset={name}").dataset.root for name in ROOTS}
    assert roots == {"ade": "/from/file/ade", "cityscapes": "/from/variable", "camvid": ROOTS["camvid"]}


def test_the_command_line_wins(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("data: {ade: /from/file}\n")
    monkeypatch.setenv("SEGNEXT_ADE", "/from/variable")
    assert train_config("dataset=ade", "dataset.root=/given").dataset.root == "/given"


def test_a_tilde_in_the_file_is_the_home(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    file.write_text("data:\n  camvid: ~/camvid\n")
    assert data_root("camvid") == "/home/somebody/camvid"


def test_without_a_file_there_is_a_folder_to_put_the_data_into(file: Path) -> None:
    assert data_root("ade") == ROOTS["ade"]
    file.write_text("")
    assert data_root("ade") == ROOTS["ade"]


def test_python_finds_them_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGNEXT_CAMVID", "/from/variable")
    with pytest.raises(DataError, match="/from/variable"):
        create_dataset("camvid")


def test_missing_data_name_what_says_so_for_good(file: Path) -> None:
    with pytest.raises(DataError) as error:
        create_dataset("cityscapes")
    assert "SEGNEXT_CITYSCAPES=FOLDER" in str(error.value)
    assert f"`data: {{cityscapes: FOLDER}}` in {file}" in str(error.value)


@pytest.mark.parametrize(
    "text", ["data: {adee: /x}", "root: /x", "- /x", "data: /x", "data: {ade: [", "data: {ade: relative}", "a: *b"]
)
def test_a_file_that_says_something_else_is_refused_by_its_name(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError, match=str(file)) as error:
        train_config("dataset=ade")
    assert "\n" not in str(error.value)
