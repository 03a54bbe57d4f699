"""What several ranks leave behind."""

from __future__ import annotations

import json
from pathlib import Path

from tests.distributed.ranks import needs_mpi, run_ranks

pytestmark = needs_mpi

SETTINGS = (
    "model=tiny", "dataset=shapes", "schedule=demo", "schedule.iterations=2", "schedule.batch_size=2",
    "schedule.log_interval=1", "dataset.crop=[32,32]", "dataset.image_size=[32,32]", "dataset.train_images=8",
    "dataset.val_images=6", "workers=1", "device=cpu",
)  # fmt: skip


def train(folder: Path, ranks: int) -> Path:
    run_ranks(ranks, "audited_train.py", str(folder / "opened"), *SETTINGS, f"run_folder={folder / 'run'}")
    return folder / "run"


def files(run: Path) -> set[str]:
    return {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}


def test_the_run_folder_is_that_of_one_process_and_no_two_ranks_write_one_file(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, two = train(tmp_path / "one", 1), train(tmp_path / "two", 2)
    own = {"ranks/0.log", "ranks/1.log", "ranks/jittor-1.log"}
    assert files(two) - own == files(one)
    assert own <= files(two)

    opened = [set((tmp_path / "two" / f"opened-{rank}").read_text().splitlines()) for rank in range(2)]
    assert not opened[0] & opened[1]
    assert opened[1] == {"ranks/1.log", "ranks/jittor-1.log"}
    assert "events.jsonl" in opened[0]

    losses = [
        [json.loads(line)["metrics"]["train/loss"] for line in (run / "events.jsonl").open() if "train/loss" in line]
        for run in (one, two)
    ]
    assert len(losses[0]) == len(losses[1]) == 2
    assert abs(losses[0][0] - losses[1][0]) < 1e-5 * losses[0][0]
    assert (two / "ranks" / "0.log").read_text().count("cores") == 2  # the mapping of both ranks
