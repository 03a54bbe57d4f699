from __future__ import annotations

import pytest

from segnext.backend.world import World, enter_mpi, leave_mpi, read_world
from segnext.errors import BackendError

OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "5",
    "OMPI_COMM_WORLD_SIZE": "8",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
    "PMIX_RANK": "5",
}
SRUN = {
    "SLURM_PROCID": "4",
    "SLURM_STEP_NUM_TASKS": "5",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "2",
    "SLURM_STEP_TASKS_PER_NODE": "1,2(x2)",
}


def test_a_process_started_by_hand_is_alone_and_leads() -> None:
    assert read_world({}) == World(0, 1, 0, 1)
    assert read_world({}).is_main


def test_mpirun_says_which_rank_this_is() -> None:
    world = read_world(OPEN_MPI)
    assert world == World(5, 8, 1, 4)
    assert not world.is_main


def test_srun_with_pmix_says_which_rank_this_is() -> None:
    assert read_world({**SRUN, "PMIX_RANK": "4"}) == World(4, 5, 1, 2)


def test_srun_without_pmix_is_refused_since_its_processes_would_each_train_alone() -> None:
    with pytest.raises(BackendError, match="--mpi=pmix"):
        read_world(SRUN)


def test_a_batch_script_of_slurm_with_one_task_is_one_process() -> None:
    assert read_world({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}).size == 1


def test_another_mpi_is_refused() -> None:
    with pytest.raises(BackendError, match="Open MPI"):
        read_world({"PMI_SIZE": "2", "PMI_RANK": "0"})


def test_children_of_a_rank_are_no_ranks() -> None:
    environment = {**OPEN_MPI, "PATH": "/bin"}
    leave_mpi(environment)
    assert environment == {"PATH": "/bin"}


def test_one_process_alone_leaves_mpi_out() -> None:
    environment = {"OMPI_COMM_WORLD_SIZE": "1"}
    enter_mpi(World(), environment)
    assert environment == {"use_mpi": "0"}


def test_ranks_without_open_mpi_are_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("sys.prefix", "/nowhere")
    with pytest.raises(BackendError, match=r"mpicc was not found: pip install 'segnext-jittor\[mpi\]'"):
        enter_mpi(World(0, 2, 0, 2), {})
