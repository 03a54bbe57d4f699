from __future__ import annotations

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from segnext.sweeps.job import job_name, own_overrides, sweep_name


def test_a_job_is_named_after_the_choices_among_which_the_sweep_goes() -> None:
    name = job_name(["model=tiny", "dataset=ade", "schedule.lr=0.001"], {"model", "schedule.lr"})
    assert name.rsplit("-", 1)[0] == "tiny_lr-0.001"


def test_jobs_that_differ_in_anything_have_different_names() -> None:
    names = {job_name(["model=tiny", f"schedule.iterations={n}"], {"model"}) for n in (10, 20)}
    assert len(names) == 2


def test_the_order_of_overrides_does_not_matter() -> None:
    one, other = ["model=tiny,small", "seed=0,1"], ["seed=0,1", "model=tiny,small"]
    assert sweep_name(one, {"model"}).rsplit("-", 1)[1] == sweep_name(other, {"model"}).rsplit("-", 1)[1]


def test_a_name_keeps_to_characters_that_every_file_system_likes() -> None:
    name = job_name(['+a.b="x y/../z"', "tracking.notes='é'"], {"a.b", "tracking.notes"})
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_.+-")
    assert "/" not in name


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=tiny", "seed=1", "schedule.lr=1e-05"],
        ["+experiment=camvid_cpu", "dataset.crop=[512,512]"],
        ['tracking.notes="a b, (c) & #d"', "dataset.root='/data/größe=1'"],
    ],
)
def test_a_job_folder_can_be_pasted_back_as_an_override(overrides: list[str]) -> None:
    folder = f"outputs/sweeps/{sweep_name(overrides, set())}/{job_name(overrides, set())}"
    for key in ("checkpoint", "resume", "path"):
        assert OverridesParser.create().parse_override(f"{key}={folder}").value() == folder


def test_a_name_has_no_number_longer_than_a_reader_needs() -> None:
    name = job_name(
        ["schedule.lr=0.00012345678901234567", "model.drop_path=1.5e-7"], {"schedule.lr", "model.drop_path"}
    )
    assert name.rsplit("-", 1)[0] == "lr-0.0001235_drop_path-1.5e-07"


def test_how_and_where_jobs_run_is_no_part_of_what_they_are() -> None:
    given = ["model=tiny", "sweep.slots=2", "hydra/launcher=submitit_local", "output_dir=x", "device=cpu", "workers=4"]
    assert own_overrides(given) == ["model=tiny"]


def test_the_search_space_of_a_sweeper_is_part_of_what_a_sweep_is() -> None:
    given = ["hydra/sweeper=optuna", "hydra.sweeper.params.x=1", "hydra.sweeper.n_trials=5"]
    assert own_overrides(given) == given[:2]
