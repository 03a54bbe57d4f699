"""Which cores and which GPU a rank gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from segnext.backend import device
from segnext.backend.device import assign_gpu, present_gpus
from segnext.backend.world import World
from segnext.distributed.mpirun import share
from segnext.errors import BackendError


def test_cores_are_shared_evenly_and_none_twice() -> None:
    cores = [0, 1, 2, 3, 8, 9, 10]
    parts = [share(cores, World(rank, 3, rank, 3)) for rank in range(3)]
    assert parts == [[0, 1], [2, 3], [8, 9, 10]]


def test_more_ranks_than_cores_share_cores_in_turns() -> None:
    assert [share([4, 5], World(rank, 3, rank, 3)) for rank in range(3)] == [[4], [5], [4]]


def test_ranks_of_another_machine_do_not_count() -> None:
    assert share([0, 1, 2, 3], World(5, 6, 1, 2)) == [2, 3]


@pytest.fixture
def nccl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    library = tmp_path / "libnccl.so.2"
    library.touch()
    monkeypatch.setattr(device, "find_nccl", lambda: (tmp_path / "include", library))
    return library


def test_without_nccl_a_rank_sees_its_own_gpu_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(device, "find_nccl", lambda: None)
    environment: dict[str, str] = {}
    assert assign_gpu(World(5, 8, 1, 4), ["0", "3", "4", "5"], links=tmp_path, environment=environment) == "3"
    assert environment == {"use_nccl": "0", "CUDA_VISIBLE_DEVICES": "3"}


def test_with_nccl_jittor_chooses_the_gpu_of_the_ranks_number(nccl: Path, tmp_path: Path) -> None:
    environment: dict[str, str] = {}
    links = tmp_path / "links"
    assert assign_gpu(World(5, 8, 1, 4), ["0", "3", "4", "5"], links=links, environment=environment) == "3"
    assert environment == {
        "use_nccl": "1", "nccl_include_path": str(tmp_path / "include"), "nccl_lib_path": str(links),
    }  # fmt: skip
    assert (links / "libnccl.so").resolve() == nccl


def test_more_ranks_than_gpus_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="4 ranks on this machine and 2 visible GPUs"):
        assign_gpu(World(0, 8, 0, 4), ["0", "1"], links=tmp_path, environment={})


def test_the_gpus_are_those_that_the_user_left_visible(tmp_path: Path) -> None:
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / name).mkdir()
    assert present_gpus({"CUDA_VISIBLE_DEVICES": "2, 5"}, driver=tmp_path) == ["2", "5"]
    assert present_gpus({"CUDA_VISIBLE_DEVICES": ""}, driver=tmp_path) == []
    assert present_gpus({}, driver=tmp_path) == ["0", "1"]
    assert present_gpus({}, driver=tmp_path / "missing") == []
