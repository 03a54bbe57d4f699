"""Settings that follow from an earlier run or a checkpoint, put before those of the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from segnext.app.keys import leaf_keys
from segnext.app.overrides import RENAMED
from segnext.settings import MISSING, literal
from segnext.tracking.run_folder import RunFolder, select
from segnext.weights.checkpoint import describe, find_checkpoint
from segnext.weights.zoo import PREFIX

__all__ = ["with_settings_of_checkpoint", "with_settings_of_run"]

_GROUPS = ("model", "dataset")
_OF_THE_START = ("resume", "run_folder", "output_dir")  # where a run lies, not what it is
_OF_AN_EVALUATION = tuple(f"dataset.test.{key}" for key in ("tta", "ratios", "flip", "window_batch"))


def with_settings_of_checkpoint(overrides: Sequence[str], schema: type[Any]) -> list[str]:
    """Overrides with those before them that follow from ``checkpoint=…``; what is given itself wins.

    A checkpoint in a run folder has the run's model, dataset and test settings, any other one of ours or of the zoo
    those that it holds itself, and a foreign one none. Naming another model or dataset leaves out all about it.

    Raises:
        WeightsError: the checkpoint is missing or damaged.
    """
    given = _given(overrides)
    checkpoint = given.get("checkpoint")
    if not isinstance(checkpoint, str):
        return list(overrides)
    known = _settings_of(checkpoint, [key for key in leaf_keys(schema) if key not in schema.UNREAD])
    return _fill_in(overrides, given, known)


def with_settings_of_run(overrides: Sequence[str], schema: type[Any]) -> list[str]:
    """Overrides with those before them that a run was started with that ``resume=FOLDER`` names; what is given wins.

    Raises:
        ConfigError: there is no run in that folder.
    """
    given = _given(overrides)
    resume = given.get("resume")
    if not isinstance(resume, str) or resume == "auto":
        return list(overrides)
    record = RunFolder.open(resume).read_config()
    known: dict[str, Any] = {group: node["name"] for group in _GROUPS if "name" in (node := record.get(group) or {})}
    for key in leaf_keys(schema):
        if key in _OF_THE_START or key.removesuffix(".name") in known:
            continue
        if (value := select(record, key, MISSING)) != MISSING:  # another release knew other settings
            known[key] = value
    return _fill_in(overrides, given, known)


def _settings_of(checkpoint: str, keys: Sequence[str]) -> dict[str, Any]:
    """What is known of a checkpoint: the choices of the groups, and those of the ``keys`` that are in them."""
    info = describe(checkpoint)
    known: dict[str, Any] = {}
    if info is not None:
        test = {f"dataset.test.{key}": value for key, value in info.test_record().items()}
        known = {"model": info.model, "dataset": info.dataset, "model.ham.rank": info.nmf_rank, **test}
        known |= {"dataset.image_range": info.image_range} if info.image_range else {}
    if not checkpoint.startswith(PREFIX):
        file = find_checkpoint(checkpoint)
        if file.parent.name == "checkpoints":
            known |= _recorded(RunFolder(file.parent.parent), keys)
    if "dataset.split_files.val" not in keys:  # the images are of no matter, and the checkpoint knows its classes
        known.pop("dataset.root", None)
        known.pop("dataset.classes", None)
    return {key: value for key, value in known.items() if key in (*keys, *_GROUPS)}


def _recorded(run: RunFolder, keys: Sequence[str]) -> dict[str, Any]:
    """Those ``keys`` of model and dataset that a run's configuration holds, under today's names."""
    config = run.read_config()
    known = {group: select(config, f"{group}.name") for group in _GROUPS}
    if None in known.values():
        return {}  # no record or a damaged one: the checkpoint describes itself
    before = {new: old for old, new in RENAMED.items() if "." in old}
    for key in keys:
        if key.split(".")[0] in _GROUPS and not key.endswith(".name") and key not in _OF_AN_EVALUATION:
            value = select(config, key, select(config, before.get(key, key), MISSING))
            if value != MISSING:
                known[key] = value
    return known


def _given(overrides: Sequence[str]) -> dict[str, Any]:
    """The settings and choices on the command line by name."""
    return {
        override.key_or_group: override.value()
        for override in OverridesParser.create().parse_overrides(list(overrides))
        if not override.is_delete() and not override.is_sweep_override()
    }


def _fill_in(overrides: Sequence[str], given: Mapping[str, Any], known: Mapping[str, Any]) -> list[str]:
    """The overrides with those ``known`` before them that they leave open; another choice of a group leaves none."""
    chosen = [key for key in given if "." not in key and given[key] != known.get(key)]
    known = {key: value for key, value in known.items() if key.split(".")[0] not in chosen}
    inside = [key for key in given if key not in _GROUPS]  # a group that is given may be what is known
    own = {
        key: value
        for key, value in known.items()
        if key not in given and not any(key.startswith(f"{outer}.") for outer in inside)
    }
    return [*(f"{key}={literal(value)}" for key, value in own.items()), *overrides]
