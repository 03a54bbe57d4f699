"""Every configuration composes and validates; wrong settings are refused with the cure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_module
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import OmegaConf

import conf
import runners.train
from segnext.app.resolution import register, resolve, to_yaml
from segnext.app.schema import TrainConfig
from segnext.data.settings import DatasetSettings, InferenceSettings
from segnext.errors import ConfigError
from segnext.models.variants import published
from tests.runners.commands import run

CONF = Path(conf.__file__).parent


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def train_config(*overrides: str) -> TrainConfig:
    register()
    with initialize_config_module("conf", version_base="1.3"):
        return resolve(compose("train", overrides=list(overrides)), TrainConfig)


@pytest.mark.parametrize("model", options("model"))
@pytest.mark.parametrize("dataset", options("dataset"))
def test_every_model_composes_with_every_dataset(model: str, dataset: str) -> None:
    config = train_config(f"model={model}", f"dataset={dataset}")
    assert (config.model.name, config.dataset.name) == (model, dataset)


@pytest.mark.parametrize("group", ["schedule", "tracking", "experiment"])
def test_every_option_of_the_other_groups_composes(group: str) -> None:
    for option in options(group):
        train_config(f"{group}={option}")


@pytest.mark.parametrize(
    ("dataset", "crop", "batch_size", "mode"),
    [("ade", [512, 512], 16, "whole"), ("cityscapes", [1024, 1024], 8, "slide")],
)
def test_the_recipe_follows_from_the_dataset(dataset: str, crop: list[int], batch_size: int, mode: str) -> None:
    config = train_config("model=large", f"dataset={dataset}")
    assert list(config.dataset.crop) == crop
    assert config.schedule.batch_size == batch_size
    assert config.dataset.test.windows == mode
    assert config.model.drop_path == 0.3
    assert config.model.ham.rank == 64
    assert config.model.pretrained == "auto"


def test_the_pretrained_backbone_is_the_datasets_unless_it_is_named() -> None:
    assert train_config("dataset.pretrained=of_data").model.pretrained == "of_data"
    assert train_config("dataset.pretrained=of_data", "model.pretrained=own").model.pretrained == "own"


def test_the_command_line_and_python_test_in_the_same_way() -> None:
    assert train_config("dataset=ade").dataset.test == InferenceSettings()
    assert train_config("dataset=folder").dataset.test == DatasetSettings(name="folder").test


def test_a_plain_command_is_composed_as_often_as_hydra_does_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    composed = []
    load = ConfigLoaderImpl.load_configuration

    def counted(*args: Any, **kwargs: Any) -> Any:
        composed.append(kwargs)
        return load(*args, **kwargs)

    monkeypatch.setattr(ConfigLoaderImpl, "load_configuration", counted)
    assert run(runners.train.main, monkeypatch, "dataset=folder", "dataset.root=/nowhere") == 2
    assert len(composed) == 2  # the first to learn hydra.mode


def test_hydra_is_used_by_its_public_interface() -> None:
    for folder in ("segnext", "runners", "hydra_plugins"):
        for path in (CONF.parent / folder).rglob("*.py"):
            assert "hydra._internal" not in path.read_text(encoding="utf-8"), path


def test_published_figures_follow_from_model_and_dataset() -> None:
    config = train_config("model=small", "dataset=cityscapes")
    results = published(config.model.name, config.dataset.name)
    assert results is not None
    assert results.mIoU_ms == 82.7


def test_an_override_on_the_command_line_wins_over_an_experiment() -> None:
    config = train_config("experiment=camvid_cpu", "schedule.iterations=7")
    assert (config.dataset.name, config.schedule.iterations) == ("camvid", 7)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+model.drop_pth=0.2", "unknown setting model.drop_pth: did you mean model.drop_path?"),
        ("+schedul.lr=1", "unknown setting schedul: did you mean schedule?"),
        ("schedule.batch_size=0", "schedule.batch_size=0 is out of range: give at least 1"),
        ("schedule.micro_batch=5", "give a divisor of the batch size 16"),
        ("model.drop_path=1.0", "model.drop_path=1.0 is out of range"),
        ("dataset.crop=[512]", "dataset.crop=[512] is out of range: give two positive numbers"),
        ("evaluation.max_images=0", "evaluation.max_images=0 is out of range"),
        ("workers=-1", "workers=-1 is out of range"),
    ],
)
def test_a_wrong_setting_is_named_with_the_cure(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        train_config(override)
    assert message in str(error.value)


def test_the_saved_yaml_holds_resolved_values_and_composes_to_the_same_object() -> None:
    config = train_config("dataset=shapes", "schedule=demo")
    saved = OmegaConf.create(to_yaml(config))
    assert "${" not in to_yaml(config)
    assert resolve(saved, TrainConfig) == config
