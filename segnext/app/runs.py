"""What verbs other than train do before and after their work: settings from a checkpoint, and a folder of results."""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from segnext.app.keys import leaf_keys
from segnext.app.overrides import fill_in, given_overrides
from segnext.app.renamed import RENAMED
from segnext.app.resolution import to_yaml
from segnext.app.schema import CommonConfig
from segnext.distributed.communicator import Communicator
from segnext.errors import ConfigError, found_at_work
from segnext.tracking.run_folder import RunFolder
from segnext.training.interrupt import Interrupted, StopSignals
from segnext.weights.checkpoint import describe, find_checkpoint
from segnext.weights.zoo import PREFIX

__all__ = ["open_run_folder", "recorded", "with_settings_of_checkpoint", "with_settings_of_run"]

_GROUPS = ("model", "dataset")
_OF_THE_START = ("resume", "run_folder", "output_dir")  # where a run lies, not what it is
_OF_THE_EVALUATION = tuple(f"dataset.test.{key}" for key in ("tta", "ratios", "flip", "window_batch"))


def with_settings_of_checkpoint(overrides: Sequence[str], schema: type[Any]) -> list[str]:
    """Overrides with those before them that follow from ``checkpoint=…``; what is given itself wins.

    A checkpoint in a run folder has the run's model, dataset and test settings, any other one of ours or of the zoo
    those that it holds itself, and a foreign one none. Naming another model or dataset leaves out all about it.

    Raises:
        WeightsError: the checkpoint is missing or damaged.
    """
    given = given_overrides(overrides)
    checkpoint = given.get("checkpoint")
    if not isinstance(checkpoint, str):
        return list(overrides)
    known = _settings_of(checkpoint, [key for key in leaf_keys(schema) if key not in schema.UNREAD])
    return fill_in(overrides, given, known)


def with_settings_of_run(overrides: Sequence[str], schema: type[Any]) -> list[str]:
    """Overrides with those before them that a run was started with that ``resume=FOLDER`` names; what is given wins.

    Raises:
        ConfigError: there is no run in that folder.
    """
    given = given_overrides(overrides)
    resume = given.get("resume")
    if not isinstance(resume, str) or resume == "auto":
        return list(overrides)
    record = RunFolder.open(resume).read_config()
    known: dict[str, Any] = {group: node["name"] for group in _GROUPS if "name" in (node := record.get(group) or {})}
    for key in leaf_keys(schema):
        if key in _OF_THE_START or key.removesuffix(".name") in known:
            continue
        with contextlib.suppress(KeyError, TypeError):  # another release knew other settings
            known[key] = functools.reduce(operator.getitem, key.split("."), record)
    return fill_in(overrides, given, known)


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
            known |= _recorded(file.parent.parent / "config.yaml", keys)
    if "dataset.split_files.val" not in keys:  # the images are of no matter, and the checkpoint knows its classes
        known.pop("dataset.root", None)
        known.pop("dataset.classes", None)
    return {key: value for key, value in known.items() if key in (*keys, *_GROUPS)}


def _recorded(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    """Those ``keys`` of model and dataset that a run's configuration holds, under today's names."""
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        known = {group: config[group]["name"] for group in _GROUPS}
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError):
        return {}  # no record or a damaged one: the checkpoint describes itself
    before = {new: old for old, new in RENAMED.items() if "." in old}
    for key in keys:
        for name in (key, before.get(key)):
            run_time = name in _OF_THE_EVALUATION
            if name and name.split(".")[0] in _GROUPS and not name.endswith(".name") and not run_time:
                try:
                    node = config
                    for part in name.split("."):
                        node = node[part]
                except (KeyError, TypeError):
                    continue
                known[key] = node
                break
    return known


def open_run_folder(config: CommonConfig, name: str) -> RunFolder:
    """A new folder below ``output_dir``, or the one named by ``run_folder``, holding the resolved configuration.

    Raises:
        ConfigError: the folder holds a finished run or belongs to one that is at work.
    """
    folder = RunFolder.adopt(config.run_folder) if config.run_folder else RunFolder.create(config.output_dir, name)
    if folder.has_finished:
        raise ConfigError(f"run_folder={config.run_folder} holds a finished run: name another folder")
    folder.claim()
    folder.write_config(to_yaml(config))
    return folder


@contextmanager
def recorded(folder: RunFolder, *, by: Communicator | None = None, at_once: bool = False) -> Iterator[StopSignals]:
    """Keeps ``status.json`` of the folder: running, then how it ended; rank 0 alone does so.

    Yields the signals to stop, which the work looks at between two images, unless they end it ``at_once``, as they do
    among several ranks.
    """
    stops = StopSignals(at_once=at_once)
    if by is not None and not by.is_main:
        yield stops
        return
    folder.write_status("running")
    try:
        with stops if by is None or by.size == 1 else contextlib.nullcontext():
            yield stops
    except (Interrupted, KeyboardInterrupt) as error:
        name = error.signal_name if isinstance(error, Interrupted) else "SIGINT"
        folder.write_status("interrupted", exit_reason=name)
        raise
    except BaseException as error:
        found_at_work(error)
        folder.write_status("failed", error=str(error), exit_reason=type(error).__name__)
        raise
    folder.write_status("finished")
