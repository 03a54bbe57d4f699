"""What a runner makes of ``ranks`` and of being started by mpirun."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from runners import launch, ranks
from segnext.config import ScheduleConfig
from segnext.errors import ConfigError
from segnext.parallel.launcher import mpirun_command
from segnext.parallel.world import World
from tests.parallel.ranks import needs_mpi


def started(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    for module in (launch, ranks):
        monkeypatch.setattr(module, "current_world", lambda: World(0, size, 0, size))


@pytest.mark.parametrize(("wanted", "expected"), [(None, 0), (1, 0), (3, 3)])
def test_one_process_starts_the_ranks_that_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, wanted: int | None, expected: int
) -> None:
    started(monkeypatch, 1)
    assert launch._ranks_to_start("train", SimpleNamespace(ranks=wanted)) == expected


def test_a_rank_starts_no_ranks_and_records_how_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    started(monkeypatch, 2)
    config = SimpleNamespace(ranks=None)
    assert launch._ranks_to_start("train", config) == 0
    assert config.ranks == 2


def test_ranks_that_contradict_mpirun_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    started(monkeypatch, 2)
    with pytest.raises(ConfigError, match="ranks=4, and 2 were started"):
        launch._ranks_to_start("train", SimpleNamespace(ranks=4))


def test_a_verb_for_one_process_is_refused_under_mpirun(monkeypatch: pytest.MonkeyPatch) -> None:
    started(monkeypatch, 2)
    with pytest.raises(ConfigError, match="profile is work for one process"):
        launch._ranks_to_start("profile", SimpleNamespace())


@pytest.mark.parametrize(("batch", "micro", "size", "words"), [
    (8, None, 3, "choose a multiple of 3"),
    (2, None, 4, "choose a multiple of 4"),
    (8, 8, 2, "must divide the 4 images"),
])  # fmt: skip
def test_a_batch_that_cannot_be_shared_evenly_is_refused(
    monkeypatch: pytest.MonkeyPatch, batch: int, micro: int | None, size: int, words: str
) -> None:
    started(monkeypatch, size)
    schedule = ScheduleConfig("demo", 10, batch, micro)
    with pytest.raises(ConfigError, match=words):
        ranks.require_divisible(schedule)


def test_a_batch_that_can_be_shared_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    started(monkeypatch, 4)
    ranks.require_divisible(ScheduleConfig("demo", 10, 16, 2))


@needs_mpi
def test_mpirun_neither_binds_nor_counts_cores() -> None:
    command = mpirun_command(["python", "x.py"], 5)
    assert Path(command[0]).name == "mpirun"
    assert command[1:] == ["-np", "5", "--bind-to", "none", "--map-by", ":OVERSUBSCRIBE", "python", "x.py"]
