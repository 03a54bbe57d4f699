from __future__ import annotations

from pathlib import Path

import pytest
import rich.box

from segnext.app.memory import fit_step, memory_table, same_step_as
from segnext.app.resolution import to_yaml
from segnext.app.schema import Device, ProfileConfig, TrainConfig
from segnext.data.settings import DatasetSettings
from segnext.errors import ConfigError
from segnext.models.settings import ModelSettings
from segnext.tracking.run_folder import RunFolder
from segnext.training.schedule import ScheduleSettings
from segnext.weights.trained import StartSettings


def config(memory: str, micro_batch: int | None = None) -> TrainConfig:
    return TrainConfig(
        name="x",
        model=StartSettings("tiny"),
        dataset=DatasetSettings(crop=(512, 512)),
        schedule=ScheduleSettings(iterations=10, batch_size=16, micro_batch=micro_batch),
        device=Device.cpu,
        memory=memory,
    )


@pytest.mark.parametrize(
    ("memory", "micro_batch", "checkpointing"), [("40GiB", None, False), ("6 GiB", None, True), ("0.85GiB", 2, True)]
)
def test_the_first_way_that_fits_is_taken_and_said(memory: str, micro_batch: int | None, checkpointing: bool) -> None:
    chosen = config(memory)
    said = fit_step(chosen, num_classes=150, run=None)
    assert (chosen.schedule.micro_batch, chosen.model.gradient_checkpointing) == (micro_batch, checkpointing)
    assert f"micro_batch={micro_batch}" in said or micro_batch is None
    assert ("gradient_checkpointing=true" in said) is checkpointing


def test_a_step_that_was_divided_by_hand_is_not_divided_again() -> None:
    with pytest.raises(ConfigError, match="leave them out"):
        config("5GiB", micro_batch=4)


def test_what_fits_no_way_is_refused_with_what_it_needs() -> None:
    with pytest.raises(ConfigError, match=r"memory=0.1GiB leaves 0\.1 GiB for a step that needs 0\.\d GiB"):
        fit_step(config("0.1GiB"), num_classes=150, run=None)


def test_the_table_has_a_row_for_every_micro_batch() -> None:
    profiled = ProfileConfig(model=ModelSettings("tiny"), dataset=DatasetSettings(crop=(64, 64), batch_size=6))
    table = memory_table(profiled, 19, rich.box.MARKDOWN)
    assert list(table.columns[0].cells) == ["6 (whole)", "3", "2", "1"]
    assert len(table.columns) == 5


def test_a_run_goes_on_with_the_step_that_it_has_chosen(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, "x")
    first, again, other = config("3GiB"), config("3GiB"), config("20GiB")
    fit_step(first, num_classes=150, run=None)
    run.write_config(to_yaml(first))
    assert same_step_as(again, run)
    assert again == first
    assert not same_step_as(other, run)
