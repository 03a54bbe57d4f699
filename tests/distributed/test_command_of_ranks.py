"""What a runner makes of ``ranks`` and of being started by mpirun."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from segnext.app import runner as launch
from segnext.app.schema import BenchmarkConfig, Rival, TrainConfig
from segnext.backend.world import World
from segnext.distributed import mpirun
from segnext.distributed.mpirun import mpirun_command, ranks_environment
from segnext.errors import ConfigError
from segnext.training.schedule import ScheduleSettings
from tests.distributed.ranks import needs_mpi


def started(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(launch, "current_world", lambda: World(0, size, 0, size))


@pytest.mark.parametrize(("wanted", "expected"), [(None, 0), (1, 0), (3, 3)])
def test_one_process_starts_the_ranks_that_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, wanted: int | None, expected: int
) -> None:
    started(monkeypatch, 1)
    assert launch._ranks_to_start("train", SimpleNamespace(ranks=wanted)) == expected


def test_a_rank_starts_no_ranks_and_records_how_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    started(monkeypatch, 2)
    config = SimpleNamespace(ranks=None, check=lambda: None)
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


def train_config(batch: int, micro: int | None, ranks: int) -> TrainConfig:
    return TrainConfig(name="x", schedule=ScheduleSettings(10, batch, micro), ranks=ranks)


@pytest.mark.parametrize(("batch", "micro", "size", "words"), [
    (8, None, 3, "choose a multiple of 3"),
    (2, None, 4, "choose a multiple of 4"),
    (8, 8, 2, "must divide the 4 images"),
])  # fmt: skip
def test_a_batch_that_cannot_be_shared_evenly_is_refused(batch: int, micro: int | None, size: int, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        train_config(batch, micro, size)


def test_a_batch_that_can_be_shared_is_taken() -> None:
    assert train_config(16, 2, 4).ranks == 4


def test_a_batch_that_mpiruns_ranks_cannot_share_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    started(monkeypatch, 3)
    config = TrainConfig(name="x", schedule=ScheduleSettings(10, 8))
    with pytest.raises(ConfigError, match="choose a multiple of 3"):
        launch._ranks_to_start("train", config)


@pytest.mark.parametrize(("setting", "words"), [
    ({"what": ["data"]}, "train or inference"),
    ({"against": Rival.torch}, "leave ranks out"),
])  # fmt: skip
def test_ranks_benchmark_only_what_they_share(setting: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        BenchmarkConfig(name="x", ranks=2, **setting)  # type: ignore[arg-type]


def test_mpirun_is_not_told_that_it_is_a_rank_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PMIX_RANK", "0")
    monkeypatch.setenv("PMIX_MCA_gds", "hash")  # a setting of the user's
    environment = ranks_environment()
    assert "PMIX_RANK" not in environment
    assert environment["PMIX_MCA_gds"] == "hash"


@needs_mpi
def test_mpirun_neither_binds_nor_counts_cores() -> None:
    command = mpirun_command(["python", "x.py"], 5)
    assert Path(command[0]).name == "mpirun"
    assert command[1:] == ["-np", "5", "--bind-to", "none", "--map-by", ":OVERSUBSCRIBE", "python", "x.py"]


@needs_mpi
def test_what_the_ranks_say_is_all_that_is_said_of_their_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert mpirun.launch(["sh", "-c", "echo why >&2; exit 2"], 2) == 2
    assert set(capsys.readouterr().err.splitlines()) == {"why"}
