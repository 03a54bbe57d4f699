"""Several ranks compute what one process computes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.distributed.ranks import needs_mpi, run_ranks

pytestmark = needs_mpi


def steps(folder: Path, ranks: int, *arguments: str) -> dict[str, np.ndarray]:
    folder.mkdir()
    run_ranks(ranks, "train_steps.py", str(folder), *arguments)
    assert len({file.read_text() for file in folder.glob("checksum-*")}) == 1  # all ranks hold the same weights
    with np.load(folder / "steps.npz") as file:
        return dict(file)


def assert_same_training(ours: dict[str, np.ndarray], alone: dict[str, np.ndarray]) -> None:
    """Losses, gradient norms, weights and running statistics after ten steps of AdamW, within 1e-5.

    The gradient of a bias before a batch norm is zero but for rounding, which Adam makes steps of; so do the running
    means of maps whose mean is zero. Hence the absolute part.
    """
    assert ours["logged"].shape == (10, 2)
    np.testing.assert_allclose(ours["logged"], alone["logged"], rtol=1e-5)
    for name, value in alone.items():
        if name != "logged" and not name.startswith("exp_avg"):
            np.testing.assert_allclose(ours[name], value, rtol=0, atol=1e-5 * np.abs(value).max() + 1e-6, err_msg=name)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    return steps(tmp_path_factory.mktemp("alone") / "steps", 1, "8")


def test_a_batch_of_8_shared_by_two_ranks_trains_as_in_one_process(
    alone: dict[str, np.ndarray], tmp_path: Path
) -> None:
    assert_same_training(steps(tmp_path / "two", 2, "8"), alone)


def test_four_ranks_train_as_one_process(alone: dict[str, np.ndarray], tmp_path: Path) -> None:
    assert_same_training(steps(tmp_path / "four", 4, "8"), alone)


def test_weights_and_running_statistics_do_change_in_these_steps(alone: dict[str, np.ndarray], tmp_path: Path) -> None:
    other = steps(tmp_path / "other", 1, "4")
    with pytest.raises(AssertionError):
        assert_same_training(other, alone)


# What srun --mpi=pmix leaves in the environment: SLURM's and PMIx's variables, none of mpirun's.
AS_BY_SRUN = """
export SLURM_PROCID=$PMIX_RANK SLURM_LOCALID=$PMIX_RANK SLURM_STEP_NUM_TASKS=2 SLURM_STEP_TASKS_PER_NODE=2
for name in $(env | grep -o '^OMPI_[A-Z_]*'); do unset "$name"; done
exec "$@"
"""


def evaluation(folder: Path, ranks: int, wrapper: Sequence[str] = ()) -> dict[str, np.ndarray]:
    run_ranks(ranks, "evaluate_share.py", str(folder / f"{ranks}.npz"), wrapper=wrapper)
    with np.load(folder / f"{ranks}.npz") as file:
        return dict(file)


def test_evaluation_by_one_process_two_ranks_of_srun_and_three_of_mpirun_gives_one_result(tmp_path: Path) -> None:
    by_srun = ["sh", "-c", AS_BY_SRUN, "sh"]
    results = [evaluation(tmp_path, 1), evaluation(tmp_path, 2, by_srun), evaluation(tmp_path, 3)]
    alone = results[0]
    assert [list(result.pop("images")) for result in results] == [[7], [4, 3], [3, 2, 2]]
    assert alone["matrix"].sum() > 0
    for result in results[1:]:
        for name, value in alone.items():
            assert np.array_equal(result[name], value), name
