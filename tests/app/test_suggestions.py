"""A name that other tools use is answered with ours; what is suggested works."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore

from segnext.app.keys import key_names, read_keys
from segnext.app.overrides import whole_numbers
from segnext.app.resolution import register, resolve
from segnext.app.schema import VERBS, EvaluateConfig, PredictConfig, TrainConfig
from segnext.app.setting_errors import _MEANINGS, unknown_key


@pytest.mark.parametrize(
    ("schema", "word", "meant"),
    [
        (TrainConfig, "epochs", "schedule.iterations"),
        (TrainConfig, "batch_size", "schedule.batch_size"),
        (TrainConfig, "lr", "schedule.lr"),
        (TrainConfig, "optimizer.lr", "schedule.lr"),
        (TrainConfig, "num_workers", "workers"),
        (TrainConfig, "gpus", "ranks"),
        (PredictConfig, "gpus", "device"),
        (EvaluateConfig, "weights", "checkpoint"),
        (EvaluateConfig, "boundary", "evaluation.boundary"),
        (TrainConfig, "data_root", "dataset.root"),
        (TrainConfig, "schedule.itreations", "schedule.iterations"),
    ],
)
def test_a_name_is_understood_by_its_meaning_or_its_letters(schema: type[Any], word: str, meant: str) -> None:
    assert unknown_key(word, schema) == f"unknown setting {word}: did you mean {meant}?"


def test_a_name_that_means_nothing_is_answered_by_help() -> None:
    assert unknown_key("qqqqq", TrainConfig) == "unknown setting qqqqq: `--help` lists all settings"


@pytest.mark.parametrize("verb", VERBS)
def test_whatever_is_suggested_is_a_setting_that_the_verb_reads(verb: str) -> None:
    read = {key.name for key in read_keys(VERBS[verb])}
    for word in {*_MEANINGS, *(key.rsplit(".", 1)[-1] for other in VERBS.values() for key in key_names(other))}:
        if match := re.search(r"did you mean (\S+)\?", unknown_key(word, VERBS[verb])):
            assert match[1] in read


def test_every_meaning_is_of_some_verb() -> None:
    known = {key.name for schema in VERBS.values() for key in read_keys(schema)}
    assert {meant for several in _MEANINGS.values() for meant in several} <= known


def test_whole_numbers_may_be_written_as_powers_of_ten() -> None:
    given = ["schedule.iterations=2e4,1.5e3", "dataset.crop=[512.0,2e2]", "schedule.lr=1e0", "seed=0.5", "name=1e3"]
    wanted = ["schedule.iterations=20000,1500", "dataset.crop=[512,200]", *given[2:]]
    assert whole_numbers(given, TrainConfig) == wanted


def test_a_run_of_2e4_iterations_composes() -> None:
    for verb in VERBS:
        ConfigStore.instance().repo.pop(f"{verb}_schema.yaml", None)
    register("train")
    overrides = whole_numbers(["schedule.iterations=2e4", "dataset=shapes"], TrainConfig)
    with initialize_config_module("conf", version_base="1.3"):
        config = resolve(compose("train", overrides=overrides), TrainConfig)
    assert config.schedule.iterations == 20000
