"""From a Hydra config to a checked object, and from a misspelt key to the nearest known one.

Hydra checks a composed config against the dataclasses registered here; ``resolve()`` checks again, because additions
such as ``+model.typo=1`` pass the first check, and then makes the objects, which check their ranges.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from segnext.app.keys import key_names, leaf_keys
from segnext.app.schema import VERBS
from segnext.app.setting_errors import unknown_key
from segnext.data.settings import data_root
from segnext.errors import ConfigError

__all__ = ["register", "resolve", "to_dict", "to_yaml"]

T = TypeVar("T")


def register(*verbs: str) -> None:
    """Puts what conf/ refers to in its place: ``data_root``, and ``<verb>_schema`` of the verbs, of all by default.

    Hydra copies its store once for every group that it looks at, only to leave the copy as it is: half of the time
    that ``--help`` took. The store says of itself that it needs no copy.
    """
    store: Any = ConfigStore.instance()
    store.__deepcopy__ = lambda memo: store
    OmegaConf.register_new_resolver("data_root", data_root, replace=True)
    for verb in verbs or VERBS:
        store.store(name=f"{verb}_schema", node=VERBS[verb])


def resolve(config: DictConfig, schema: type[T], overrides: Sequence[str] = ()) -> T:
    """Turns a composed config into an object of ``schema`` with every interpolation resolved.

    Args:
        overrides: those of the command line, which may not name a setting that has no effect.

    Raises:
        ConfigError: unknown key (with the nearest known one), missing or ill-typed value, value out of range, or an
            override without effect.
    """
    _refuse_without_effect(schema, overrides)
    try:
        merged = OmegaConf.merge(OmegaConf.structured(schema), OmegaConf.to_container(config, resolve=True))
        missing = sorted(OmegaConf.missing_keys(merged))
        if missing:
            raise ConfigError(f"{missing[0]} is not set: give {missing[0]}=… on the command line")
        result = OmegaConf.to_object(merged)
    except ConfigKeyError as error:
        raise ConfigError(unknown_key(str(error.full_key), schema)) from error
    except OmegaConfBaseException as error:
        inner: BaseException | None = error
        while inner is not None and not isinstance(inner, ConfigError):  # one of a resolver says what is wrong
            inner = inner.__context__
        key = getattr(error, "full_key", None) or "configuration"
        raise (inner or ConfigError(f"{key}: {error.msg or error}")) from error
    assert isinstance(result, schema)
    return result


def _refuse_without_effect(schema: type[Any], overrides: Sequence[str]) -> None:
    """Raises ConfigError for an override of settings none of which the verb reads."""
    unread: set[str] = set(getattr(schema, "UNREAD", ()))
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key = override.key_or_group
        leaves = [leaf for leaf in leaf_keys(schema) if leaf == key or leaf.startswith(f"{key}.")]
        if not leaves or not unread.issuperset(leaves) or override.is_delete():
            continue
        readers = [verb for verb, other in VERBS.items() if key in key_names(other) and key not in other.UNREAD]
        tell = f" (it is read by {', '.join(readers)})" if readers else ""
        raise ConfigError(f"{key} has no effect here{tell}: leave it out")


def to_dict(config: Any) -> dict[str, Any]:
    """The resolved settings as plain dictionaries, lists, numbers and strings; what has no effect is left out."""
    plain: Any = OmegaConf.to_container(OmegaConf.structured(config), enum_to_str=True)
    for key in getattr(config, "UNREAD", ()):
        *groups, leaf = key.split(".")
        node = plain
        for group in groups:
            node = node[group]
        del node[leaf]
    return {str(key): value for key, value in plain.items()}


def to_yaml(config: Any) -> str:
    """``to_dict`` as YAML, for ``config.yaml`` of a run folder."""
    return OmegaConf.to_yaml(OmegaConf.create(to_dict(config)))
