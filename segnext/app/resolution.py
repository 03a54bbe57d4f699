"""From a Hydra config to a checked object, and from a misspelt key to the nearest known one.

Hydra checks a composed config against the dataclasses registered here; ``resolve()`` checks again, because additions
such as ``+model.typo=1`` pass the first check, and then the ranges.
"""

from __future__ import annotations

import difflib
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from segnext.app.schema import (
    BenchmarkConfig,
    ConvertConfig,
    DoctorConfig,
    EvaluateConfig,
    PredictConfig,
    PrepareConfig,
    ProfileConfig,
    ReportConfig,
    TrainConfig,
)
from segnext.errors import ConfigError

__all__ = ["key_names", "register", "resolve", "to_dict", "to_yaml", "unknown_key"]

T = TypeVar("T")


def register() -> None:
    """Puts the schemas where the yaml files of conf/ refer to them, as ``<runner>_schema``."""
    store = ConfigStore.instance()
    store.store(name="train_schema", node=TrainConfig)
    store.store(name="benchmark_schema", node=BenchmarkConfig)
    store.store(name="prepare_schema", node=PrepareConfig)
    store.store(name="convert_schema", node=ConvertConfig)
    store.store(name="doctor_schema", node=DoctorConfig)
    store.store(name="profile_schema", node=ProfileConfig)
    store.store(name="report_schema", node=ReportConfig)
    store.store(name="evaluate_schema", node=EvaluateConfig)
    store.store(name="predict_schema", node=PredictConfig)


def resolve(config: DictConfig, schema: type[T]) -> T:
    """Turns a composed config into an object of ``schema`` with every interpolation resolved.

    Raises:
        ConfigError: unknown key (with the nearest known one), missing or ill-typed value, or value out of range.
    """
    try:
        merged = OmegaConf.merge(OmegaConf.structured(schema), OmegaConf.to_container(config, resolve=True))
        missing = sorted(OmegaConf.missing_keys(merged))
        if missing:
            raise ConfigError(f"{missing[0]} is not set: give {missing[0]}=… on the command line")
        result = OmegaConf.to_object(merged)
    except ConfigKeyError as error:
        raise ConfigError(unknown_key(str(error.full_key), schema)) from error
    except OmegaConfBaseException as error:
        raise ConfigError(f"{getattr(error, 'full_key', None) or 'configuration'}: {error.msg or error}") from error
    assert isinstance(result, schema)
    _check(result)
    return result


def _check(node: Any) -> None:
    """Calls ``check`` of every dataclass inside ``node``, then its own."""
    for item in fields(node):
        if is_dataclass(value := getattr(node, item.name)):
            _check(value)
    if hasattr(node, "check"):
        node.check()


def to_dict(config: Any) -> dict[str, Any]:
    """The resolved settings as plain dictionaries, lists, numbers and strings."""
    plain = OmegaConf.to_container(OmegaConf.structured(config), enum_to_str=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def to_yaml(config: Any) -> str:
    """The resolved settings as YAML, for ``config.yaml`` of a run folder."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def unknown_key(full_key: str, schema: type[Any]) -> str:
    """The message for a key that ``schema`` does not have, with the nearest ones that it has."""
    known = key_names(schema)
    nearest = difflib.get_close_matches(full_key, known, n=1, cutoff=0.6)
    leaf = full_key.rsplit(".", 1)[-1]
    nearest = nearest or [key for key in known if key.rsplit(".", 1)[-1] == leaf]
    hint = f"did you mean {nearest[0]}?" if nearest else "`--cfg job` prints all settings"
    return f"unknown setting {full_key}: {hint}"


def key_names(schema: type[Any], prefix: str = "") -> list[str]:
    """All dotted keys of a dataclass and of the dataclasses inside it."""
    names = []
    hints = get_type_hints(schema)
    for item in fields(schema):
        names.append(prefix + item.name)
        if is_dataclass(hints[item.name]):
            names += key_names(hints[item.name], f"{prefix}{item.name}.")
    return names
